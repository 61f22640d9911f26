"""The machine: its cores, its GPU, its files, and what vidload says of them. Random numbers too, which every wing draws."""
