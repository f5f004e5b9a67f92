module github.com/sockerless/sockerless/agent

go 1.24.0

require (
	connectrpc.com/connect v1.19.2
	connectrpc.com/grpchealth v1.4.0
	github.com/aws/aws-sdk-go-v2 v1.43.8
	github.com/coder/websocket v1.8.14
	github.com/docker/go-units v0.5.0
	github.com/elastic/go-seccomp-bpf v1.6.0
	github.com/google/nftables v0.3.0
	github.com/klauspost/compress v1.18.7
	github.com/miekg/dns v1.1.72
	github.com/moby/sys/mount v0.3.4
	github.com/moby/sys/mountinfo v0.7.2
	github.com/moby/sys/user v0.4.0
	github.com/sockerless/sockerless/proto v0.0.0
	github.com/vishvananda/netlink v1.3.1
	golang.org/x/net v0.48.0
	golang.org/x/sync v0.19.0
	golang.org/x/sys v0.41.0
	google.golang.org/protobuf v1.36.12
	gotest.tools/v3 v3.5.2
)

require (
	github.com/aws/smithy-go v1.27.10 // indirect
	github.com/google/go-cmp v0.7.0 // indirect
	github.com/mdlayher/netlink v1.7.3-0.20250113171957-fbb4dce95f42 // indirect
	github.com/mdlayher/socket v0.5.0 // indirect
	github.com/vishvananda/netns v0.0.5 // indirect
	golang.org/x/mod v0.31.0 // indirect
	golang.org/x/tools v0.40.0 // indirect
)

replace github.com/sockerless/sockerless/proto => ../proto
