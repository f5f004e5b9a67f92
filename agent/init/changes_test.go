package containerinit_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
	"github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1/agentv1connect"
)

func changes(t *testing.T, client agentv1connect.AgentServiceClient) []string {
	t.Helper()
	stream, err := client.Changes(patience(t), connect.NewRequest(&agentv1.ChangesRequest{}))
	must(t, err)
	defer stream.Close()
	var told []string
	for stream.Receive() {
		if change := stream.Msg().GetChange(); change != nil {
			told = append(told, string("?CAD"[change.Kind])+" "+change.Path)
		}
		if end := stream.Msg().GetEnd(); end != nil && end.Count == uint64(len(told)) {
			return told
		}
	}
	t.Fatalf("the changes were cut: %v", stream.Err())
	return nil
}

// export returns an export's entries, with the content of small files.
func export(t *testing.T, client agentv1connect.AgentServiceClient, layer bool) map[string]string {
	t.Helper()
	stream, err := client.Export(patience(t), connect.NewRequest(&agentv1.ExportRequest{Layer: layer}))
	must(t, err)
	defer stream.Close()
	var all bytes.Buffer
	ended := false
	for stream.Receive() {
		all.Write(stream.Msg().GetChunk().GetData())
		ended = stream.Msg().GetEnd() != nil
	}
	if !ended {
		t.Fatalf("the export was cut: %v", stream.Err())
	}
	entries := map[string]string{}
	for in := tar.NewReader(&all); ; {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			return entries
		}
		must(t, err)
		content, err := io.ReadAll(io.LimitReader(in, 100))
		must(t, err)
		entries[header.Name] = string(content)
	}
}

func TestWhatAContainerChangedIsKnownWithoutLayers(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{arguments: forLong, writable: true, network: true})
	client := k.client()
	must(t, put(t, client, "/", tarOf(t, "staged", "put before the start", 0)))
	must(t, tell(t, client, "peer", "10.9.8.7"))
	c := attach(t, client, "1")
	process := nobody("probe", "rewrite")
	process.User, process.WorkingDir = "root", "/made/here"
	start(t, client, &agentv1.StartRequest{Process: process, AwaitAttachIds: []string{"1"}, ExtraHosts: []*agentv1.HostsEntry{{Address: "192.0.2.7", Names: []string{"extra"}}}})
	if code := c.exit(); code != 0 {
		t.Fatalf("exit code %d: %s", code, c.stdout.String())
	}
	want := []string{"C /etc", "C /etc/group", "D /garbage", "A /made", "A /made/here", "A /new", "A /new/file", "A /staged"}
	if told := changes(t, client); !slices.Equal(told, want) {
		t.Errorf("changes %q", told)
	}
	layer := export(t, client, true)
	for name, content := range map[string]string{"etc/group": "rewritten", ".wh.garbage": "", "new/file": "new", "staged": "put before the start", "made/here/": ""} {
		if got, there := layer[name]; !there || got != content {
			t.Errorf("the layer's %s is %q, %v", name, got, there)
		}
	}
	whole := export(t, client, false)
	if whole["etc/group"] != "rewritten" || !strings.HasPrefix(whole["etc/passwd"], "root:") || whole["new/file"] != "new" {
		t.Errorf("the export: %q", whole)
	}
	for name := range whole {
		if strings.Contains(name, "sockerless") || name == "garbage" || strings.HasPrefix(name, "proc/s") || strings.HasPrefix(name, "data/") && name != "data/" || name == "etc/hosts" {
			t.Errorf("the export has %s", name)
		}
	}
	for name := range layer {
		if strings.Contains(name, "sockerless") || strings.HasPrefix(name, "data") || strings.HasPrefix(name, "etc/") && name != "etc/" && name != "etc/group" {
			t.Errorf("the layer has %s", name)
		}
	}
	// The next run's changes are added.
	c = attach(t, client, "2")
	start(t, client, &agentv1.StartRequest{Generation: 2, Process: &agentv1.ProcessSpec{Args: []string{"/probe", "write", "/second"}, Capabilities: dockerCapabilities}, AwaitAttachIds: []string{"2"}})
	c.exit()
	if told := changes(t, client); !slices.Contains(told, "A /second") || len(told) != len(want)+1 {
		t.Errorf("changes %q", told)
	}
	// Unless that run resets them.
	c = attach(t, client, "3")
	start(t, client, &agentv1.StartRequest{Generation: 3, ChangesAnew: true, Process: &agentv1.ProcessSpec{Args: []string{"/probe", "write", "/made/third"}, Capabilities: dockerCapabilities}, AwaitAttachIds: []string{"3"}})
	c.exit()
	if told := changes(t, client); !slices.Equal(told, []string{"C /made", "A /made/third"}) {
		t.Errorf("changes %q", told)
	}
	if layer := export(t, client, true); len(layer) != 2 {
		t.Errorf("the layer has %q", layer)
	}
}

func TestAVolumeThatIsNoMountHasADirectoryOfItsOwn(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{arguments: forLong, writable: true})
	client := k.client()
	c := attach(t, client, "1")
	process := nobody("probe", "write", "/volume/deep/file")
	process.User = "root"
	start(t, client, &agentv1.StartRequest{Process: process, AwaitAttachIds: []string{"1"}, VolumeDirectories: []string{"/volume/deep", "/etc"}})
	if code := c.exit(); code != 0 {
		t.Fatalf("exit code %d: %s", code, c.stdout.String())
	}
	if told := changes(t, client); !slices.Equal(told, []string{"A /volume"}) {
		t.Errorf("changes %q", told)
	}
	whole := export(t, client, false)
	if _, there := whole["volume/deep/"]; !there {
		t.Error("the export lacks the volume's directory")
	}
	if _, there := whole["volume/deep/file"]; there {
		t.Error("the export has what is in the volume")
	}
}

func TestAReadOnlyContainerHasChangedNothing(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{arguments: forLong})
	client := k.client()
	startForever(t, k, nobody())
	must(t, put(t, client, "/data", tarOf(t, "file", "in a volume", 0)))
	assert.Check(t, is.Len(changes(t, client), 0))
	if layer := export(t, client, true); len(layer) != 0 {
		t.Errorf("the layer has %q", layer)
	}
}
