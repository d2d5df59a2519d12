"""What a tick is: columns, arrays, order, text. Imports no other package of the project."""
