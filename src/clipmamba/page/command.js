// The command to copy. It is inserted as text, never as HTML.
const code = element.querySelector("code");
const button = element.querySelector("button");
const show = () => {
  code.textContent = props.value || "";
  button.textContent = "Copy";
};
watch("value", show);
show();
button.addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(code); // no permission or no HTTPS: select it instead
  }
});
