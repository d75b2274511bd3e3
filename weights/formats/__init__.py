"""The file formats, a module or a few for each: files in, what was found in them out, and back."""
