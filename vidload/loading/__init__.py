"""How samples become batches: the loader, the order of an epoch, the memory of batches, and what trainers do to a loader."""
