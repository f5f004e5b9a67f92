module github.com/sockerless/sockerless/agent

go 1.24.0

require (
	connectrpc.com/connect v1.19.2 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)

tool (
	connectrpc.com/connect/cmd/protoc-gen-connect-go
	google.golang.org/protobuf/cmd/protoc-gen-go
)
