"""A model as a MONAI bundle, a synthetic image as DICOM."""
