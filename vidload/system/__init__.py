"""The machine: its cores, its GPU, its files, and what vidload reports about them. Random numbers too, which every wing draws."""
