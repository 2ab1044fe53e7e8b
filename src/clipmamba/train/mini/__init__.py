"""The default dual encoder `mini`: its model, pictures with words, phrases, commands."""
