"""Training of the default dual encoder `mini`: its model, picture-text pairs, phrases, commands."""
