module example.com/dbss

go 1.21
