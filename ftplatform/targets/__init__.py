"""What training targets teach beside the task: spellings, variants and habits (modes M10 and M11)."""
