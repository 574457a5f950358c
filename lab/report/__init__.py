"""From numbers to tables and figures. The only home of matplotlib."""
