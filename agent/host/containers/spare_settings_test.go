package containers

import (
	"fmt"
	"testing"

	"connectrpc.com/connect"

	hostv1 "github.com/sockerless/sockerless/agent/gen/sockerless/host/v1"
)

func TestASpareHasAPIDNamespaceOfItsOwn(t *testing.T) {
	for namespaces, wanted := range map[string]connect.Code{
		`{"type": "pid"}, {"type": "mount"}`:        0,
		`{"type": "mount"}`:                         connect.CodeFailedPrecondition,
		`{"type": "pid", "path": "/proc/1/ns/pid"}`: connect.CodeFailedPrecondition,
	} {
		create := &hostv1.CreateContainerRequest{ContainerId: "a"}
		launched := &hostv1.LaunchContainerRequest{
			ContainerId: "a", Generation: 1, Network: &hostv1.NetworkNamespace{Kind: &hostv1.NetworkNamespace_None{None: true}},
			OciSpec: fmt.Appendf(nil, `{"linux": {"namespaces": [%s]}}`, namespaces),
		}
		var code connect.Code
		if err := checkSpare(create, launched); err != nil {
			code = connect.CodeOf(err)
		}
		if code != wanted {
			t.Errorf("%s: got %v, want %v", namespaces, code, wanted)
		}
	}
}
