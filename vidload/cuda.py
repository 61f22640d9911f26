"""What a user may set for a GPU. The rest of `vidload.system.cuda` is the library's own."""

from vidload.system.cuda import set_max_decoders

__all__ = ["set_max_decoders"]
