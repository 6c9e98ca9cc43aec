"""The evaluation report: candidate against champion, as a page, a module for each section. Brings Matplotlib."""
