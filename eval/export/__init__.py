"""Galleries for other programs: embeddings of the feature store as a NumPy file or a FAISS index."""

from .faiss_index import write_faiss as write_faiss
from .gallery import Gallery as Gallery
from .gallery import open_gallery as open_gallery
from .gallery import write_npy as write_npy
