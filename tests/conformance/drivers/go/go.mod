module dbss-driver

go 1.21

require example.com/dbss v0.0.0

replace example.com/dbss => ../../../../bindings/go
