"""Tables, text, figures and pages made from the lab's results."""
