// The grid of known styles: a click chooses one. Pictures are inserted in place as they arrive, so
// that the keyboard focus stays where it is.
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-style]");
  if (!button) return;
  for (const other of element.querySelectorAll("button[data-style]")) {
    other.setAttribute("aria-pressed", String(other === button));
  }
  trigger("select", { value: button.dataset.style });
});
const show = () => {
  const pictures = props.value || {};
  for (const button of element.querySelectorAll("button[data-style]")) {
    const place = button.querySelector(".thumbnail");
    const address = pictures[button.dataset.style];
    place.style.backgroundImage = address ? `url("${address}")` : "";
  }
};
watch("value", show);
show();
