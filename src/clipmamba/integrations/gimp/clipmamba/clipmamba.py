#!/usr/bin/env python3
"""GIMP 3 plug-in: restyle a layer onto a new layer with the `clipmamba` command."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile

import gi

gi.require_version("Gimp", "3.0")
gi.require_version("GimpUi", "3.0")
from gi.repository import Gimp, GimpUi, Gio, GLib, GObject  # noqa: E402

PROCEDURE = "plug-in-clipmamba-stylize"
COMMAND = "CLIPMAMBA"  # environment variable with the command's path, if it is not on the PATH
COLORS = {  # names of the choices, their labels and the command's options
    "automatic": ("Automatic", []),
    "photo": ("The photo's", ["--preserve-color"]),
    "style": ("The style's", ["--no-preserve-color"]),
}


def build_command(words: str, strength: float, stroke: float, seed: int, colors: str) -> list[str]:
    """Build the command that restyles a picture from standard input.

    Raises:
        ValueError: The words are empty, or the command is not found.
    """
    if not words.strip():
        raise ValueError("Type a style in words, for example: watercolor")
    program = shutil.which(os.environ.get(COMMAND) or "clipmamba")
    if program is None:
        raise ValueError(
            "The command clipmamba was not found. Install it with pip so that it is on the PATH, "
            f"or set the environment variable {COMMAND} to its path, and restart GIMP."
        )
    command = [program, "stylize", "-", "-o", "-", "--format", "png", "--no-settings"]
    command += [f"--prompt={words.strip()}", f"--strength={strength:g}", f"--stroke={stroke:g}"]
    if seed >= 0:
        command.append(f"--seed={seed}")
    return [*command, *COLORS[colors][1]]


def restyle_file(source: str, target: str, command: list[str]) -> str:
    """Send a picture through the command.

    Returns:
        Its warnings, such as that of a word that may be misspelled.

    Raises:
        ValueError: The command fails, with its error message.
    """
    with open(source, "rb") as before, open(target, "wb") as after:
        done = subprocess.run(command, stdin=before, stdout=after, stderr=subprocess.PIPE)
    said = done.stderr.decode(errors="replace").strip()
    if done.returncode:
        raise ValueError(said.splitlines()[-1] if said else f"clipmamba: code {done.returncode}")
    return said


def restyle_layer(image: Gimp.Image, layer: Gimp.Layer, command: list[str], words: str) -> None:
    """Put the restyled layer above the layer; a selection becomes its mask."""
    with tempfile.TemporaryDirectory(prefix="clipmamba-") as folder:
        source, target = (os.path.join(folder, name) for name in ("before.png", "after.png"))
        alone = Gimp.Image.new_with_precision(
            layer.get_width(), layer.get_height(), image.get_base_type(), image.get_precision()
        )
        try:
            alone.set_color_profile(image.get_effective_color_profile())
            copy = Gimp.Layer.new_from_drawable(layer, alone)
            alone.insert_layer(copy, None, 0)
            copy.set_offsets(0, 0)
            copy.set_opacity(100)
            copy.set_visible(True)
            if copy.get_mask() is not None:
                copy.remove_mask(Gimp.MaskApplyMode.DISCARD)
            file = Gio.File.new_for_path(source)
            if not Gimp.file_save(Gimp.RunMode.NONINTERACTIVE, alone, file, None):
                raise ValueError("GIMP could not write the layer as a PNG file")
        finally:
            alone.delete()
        warnings = restyle_file(source, target, command)
        if warnings:
            Gimp.message(warnings)
        file = Gio.File.new_for_path(target)
        result = Gimp.file_load_layer(Gimp.RunMode.NONINTERACTIVE, image, file)
    if result is None:
        raise ValueError("GIMP could not read the result")
    result.set_name(words.strip())
    image.insert_layer(result, layer.get_parent(), image.get_item_position(layer))
    _, left, top = layer.get_offsets()
    result.set_offsets(left, top)
    if not Gimp.Selection.is_empty(image):
        result.add_mask(result.create_mask(Gimp.AddMaskType.SELECTION))


def run(procedure, run_mode, image, drawables, config, data):  # type: ignore[no-untyped-def]
    """Restyle one layer; ask for the settings if run interactively."""
    if run_mode == Gimp.RunMode.INTERACTIVE:
        GimpUi.init(PROCEDURE)
        dialog = GimpUi.ProcedureDialog.new(procedure, config, "Restyle with clipmamba")
        dialog.fill(None)
        agreed = dialog.run()
        dialog.destroy()
        if not agreed:
            return procedure.new_return_values(Gimp.PDBStatusType.CANCEL, GLib.Error())
    names = ("words", "strength", "stroke", "seed", "colors")
    settings = [config.get_property(name) for name in names]
    try:
        if len(drawables) != 1 or not isinstance(drawables[0], Gimp.Layer):
            raise ValueError("Choose one layer")
        command = build_command(*settings)
        Gimp.progress_init("Restyling")
        image.undo_group_start()
        try:
            restyle_layer(image, drawables[0], command, settings[0])
        finally:
            image.undo_group_end()
    except (ValueError, OSError, GLib.Error) as error:
        failure = GLib.Error(str(error))
        return procedure.new_return_values(Gimp.PDBStatusType.EXECUTION_ERROR, failure)
    Gimp.displays_flush()
    return procedure.new_return_values(Gimp.PDBStatusType.SUCCESS, GLib.Error())


class Clipmamba(Gimp.PlugIn):
    """The plug-in, as GIMP expects it."""

    def do_query_procedures(self):  # type: ignore[no-untyped-def]
        """List the procedures of the plug-in."""
        return [PROCEDURE]

    def do_set_i18n(self, name):  # type: ignore[no-untyped-def]
        """Declare that there are no translations."""
        return False

    def do_create_procedure(self, name):  # type: ignore[no-untyped-def]
        """Describe the procedure, its menu entry and its settings."""
        procedure = Gimp.ImageProcedure.new(self, name, Gimp.PDBProcType.PLUGIN, run, None)
        procedure.set_image_types("RGB*, GRAY*")
        procedure.set_sensitivity_mask(Gimp.ProcedureSensitivityMask.DRAWABLE)
        procedure.set_menu_label("_Restyle with clipmamba...")
        procedure.add_menu_path("<Image>/Filters/Artistic")
        procedure.set_documentation(
            "Restyle the layer from words", "The result is a new layer above it.", name
        )
        procedure.set_attribution("The clipmamba authors", "The clipmamba authors", "2026")
        flags = GObject.ParamFlags.READWRITE
        procedure.add_string_argument("words", "_Words", "The style", "watercolor", flags)
        procedure.add_double_argument(
            "strength", "_Strength", "0 is the photo, 1 the full style", 0, 1.5, 1, flags
        )
        procedure.add_double_argument("stroke", "S_troke", "Stroke size", 0.5, 2, 1, flags)
        procedure.add_int_argument(
            "seed",
            "S_eed",
            "Each seed gives another variant; -1 is the default",
            -1,
            2**31 - 1,
            -1,
            flags,
        )
        choice = Gimp.Choice.new()
        for number, (value, (label, _)) in enumerate(COLORS.items()):
            choice.add(value, number, label, "")
        procedure.add_choice_argument(
            "colors", "_Colors", "Whose colors the result has", choice, "automatic", flags
        )
        return procedure


Gimp.main(Clipmamba.__gtype__, sys.argv)
