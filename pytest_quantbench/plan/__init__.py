"""What a session will take, told before it starts: transfers, disk, time."""
