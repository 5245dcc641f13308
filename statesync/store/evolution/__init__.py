"""How a store follows its tables: the program's migrations, new columns, tables that came, went or moved."""
