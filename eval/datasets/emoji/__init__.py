"""The embedded data sets: emoji in seven drawing styles, plain (`emoji`) and in scenes (`emoji-scenes`)."""
