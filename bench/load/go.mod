module sagepool.dev/bench

go 1.26
