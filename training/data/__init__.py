"""Clips with masks and tracks: made up (`scenes`), or read from VIPSeg and YouTube-VOS."""
