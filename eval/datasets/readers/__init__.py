"""How data sets lie on disk once they are unpacked: a function for each layout, from a folder to its content.

Each takes the record and the source folder, and gives a `Content`; it reads lists, and no image.
"""
