package host_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"gotest.tools/v3/assert"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
	hostv1 "github.com/sockerless/sockerless/proto/gen/sockerless/host/v1"
)

// layerClient is the part of AgentService that both a shim and the host process
// serve for a container's layers.
type layerClient interface {
	Changes(context.Context, *connect.Request[agentv1.ChangesRequest]) (*connect.ServerStreamForClient[agentv1.ChangesResponse], error)
	Export(context.Context, *connect.Request[agentv1.ExportRequest]) (*connect.ServerStreamForClient[agentv1.ExportResponse], error)
}

func changesOf(t testing.TB, client layerClient, id string) (told []string, err error) {
	t.Helper()
	stream, err := client.Changes(t.Context(), storedRequest(id, &agentv1.ChangesRequest{}))
	assert.NilError(t, err)
	defer stream.Close()
	for stream.Receive() {
		if change := stream.Msg().GetChange(); change != nil {
			told = append(told, "?CAD"[change.Kind:change.Kind+1]+" "+change.Path)
		}
		if end := stream.Msg().GetEnd(); end != nil {
			if end.Count != uint64(len(told)) {
				t.Errorf("%d changes were counted, %d told", end.Count, len(told))
			}
			return told, nil
		}
	}
	return told, stream.Err()
}

func exportOf(t testing.TB, client layerClient, id string, layer bool) []string {
	t.Helper()
	stream, err := client.Export(t.Context(), storedRequest(id, &agentv1.ExportRequest{Layer: layer}))
	assert.NilError(t, err)
	defer stream.Close()
	var content bytes.Buffer
	ended := false
	for stream.Receive() {
		content.Write(stream.Msg().GetChunk().GetData())
		ended = ended || stream.Msg().GetEnd() != nil
	}
	if !ended {
		t.Fatal(stream.Err())
	}
	var names []string
	reader := tar.NewReader(&content)
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		assert.NilError(t, err)
		names = append(names, header.Name)
	}
}

func TestChangesAndExportsOfAContainerThatRunsOrNot(t *testing.T) {
	h := startHost(t)
	id, layer := h.createNew(t)
	if told, err := changesOf(t, h.stored, id); err != nil || len(told) > 0 {
		t.Errorf("a new container changed %q (%v)", told, err)
	}
	request := sleeper(t, id, layer, noNetwork())
	request.OciSpec = ociSpec(t, "sh", "-c", "mkdir /mine && echo x > /mine/file; echo ready; exec sleep 1000")
	c := h.mustLaunch(t, request)
	c.start(t, 1)
	want := []string{"A /mine", "A /mine/file"}
	var told []string
	eventually(t, "the container has changed its files", func() bool {
		var err error
		told, err = changesOf(t, c, id)
		assert.NilError(t, err)
		return slices.Equal(told, want)
	})
	if _, err := changesOf(t, h.stored, id); connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("of a running container the host process told: %v", err)
	}
	check := func(client layerClient) {
		t.Helper()
		if names := exportOf(t, client, id, true); strings.Join(names, " ") != "mine/ mine/file" {
			t.Errorf("the layer holds %q", names)
		}
		whole := exportOf(t, client, id, false)
		if !slices.Contains(whole, "mine/file") || !slices.Contains(whole, "bin/sh") {
			t.Errorf("the export holds %q", whole)
		}
	}
	check(c)
	h.release(t, id)
	check(h.stored)
	if told, err := changesOf(t, h.stored, id); err != nil || !slices.Equal(told, want) {
		t.Errorf("afterwards it changed %q (%v)", told, err)
	}
	if _, err := changesOf(t, h.stored, randomID()); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("of no container: %v", err)
	}
}

func TestListLayers(t *testing.T) {
	h := startHost(t)
	layer := h.unpackImage(t)
	list := func() []string {
		response, err := h.ListLayers(t.Context(), connect.NewRequest(&hostv1.ListLayersRequest{}))
		assert.NilError(t, err)
		return response.Msg.DiffIds
	}
	if listed := list(); !slices.Equal(listed, []string{layer}) {
		t.Errorf("listed are %q", listed)
	}
	_, err := h.RemoveLayer(t.Context(), connect.NewRequest(&hostv1.RemoveLayerRequest{DiffId: layer}))
	assert.NilError(t, err)
	if listed := list(); len(listed) > 0 {
		t.Errorf("after its removal listed are %q", listed)
	}
}
