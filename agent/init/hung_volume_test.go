package containerinit_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/sockerless/sockerless/agent/core/hungfs"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// hungVolume is a file system whose server answers what its root is, and nothing else.
type hungVolume struct {
	server *os.File
	asked  chan struct{} // has an element once somebody hangs
}

func mountHungVolume(t *testing.T, at string) *hungVolume {
	t.Helper()
	must(t, os.Mkdir(at, 0o755))
	v := &hungVolume{hungfs.Mount(t, at), make(chan struct{}, 1)}
	go v.serve()
	return v
}

// serve speaks FUSE's protocol (linux/fuse.h).
func (v *hungVolume) serve() {
	const getattr, initialize = 3, 26
	type header struct {
		Length uint32
		Error  int32
		Unique uint64
	}
	for request := make([]byte, 128<<10); ; {
		if _, err := v.server.Read(request); err != nil {
			return
		}
		var body []uint32
		switch binary.NativeEndian.Uint32(request[4:]) {
		case initialize:
			body = make([]uint32, 16)
			body[0], body[1], body[5] = 7, 31, 4096 // version and longest write
		case getattr:
			body = make([]uint32, 26)
			body[4], body[19], body[20] = 1, unix.S_IFDIR|0o755, 2 // number, mode and links
		default:
			select {
			case v.asked <- struct{}{}:
			default:
			}
			continue
		}
		head := header{Length: uint32(16 + 4*len(body)), Unique: binary.NativeEndian.Uint64(request[8:])}
		answer, _ := binary.Append(nil, binary.NativeEndian, head)
		answer, _ = binary.Append(answer, binary.NativeEndian, body)
		_, _ = v.server.Write(answer)
	}
}

func TestAnExecThatCannotBeKilledHoldsUpNoEnd(t *testing.T) {
	t.Parallel()
	var volume *hungVolume
	k := startTask(t, taskOptions{mount: func(root string) { volume = mountHungVolume(t, filepath.Join(root, "hung")) }})
	defer volume.server.Close()
	client := k.client()
	c := attach(t, client, "a")
	start(t, client, &agentv1.StartRequest{Process: nobody("probe", "forever"), AwaitAttachIds: []string{"a"}})
	hung := nobody("probe", "who")
	hung.WorkingDir = "/hung"
	execute(t, client, "hung", hung)
	<-volume.asked
	_, err := client.Signal(patience(t), connect.NewRequest(&agentv1.SignalRequest{Signal: 9}))
	must(t, err)
	assert.Check(t, is.Equal(c.exit(), 137))
}
