module github.com/sockerless/sockerless/test/bench

go 1.24.0
