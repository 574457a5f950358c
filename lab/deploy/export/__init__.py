"""Export of a model as a MONAI bundle, and of a synthetic image as DICOM."""
