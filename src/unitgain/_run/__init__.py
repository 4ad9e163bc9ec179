"""Running a model without leaving a trace."""
