"""Images in files: photographs, label maps and panoptic ids, read by one reader that refuses what is damaged."""
