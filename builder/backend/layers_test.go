package backend_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	digest "github.com/opencontainers/go-digest"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/sockerless/sockerless/builder/backend"
	"github.com/sockerless/sockerless/builder/backend/backendtest"
)

var layerBytes = bytes.Repeat([]byte("a layer "), 100_000)

func layer() *backend.Layer {
	return &backend.Layer{DiffID: digest.FromBytes(layerBytes), Size: int64(len(layerBytes)), Content: bytes.NewReader(layerBytes)}
}

func TestALayerGoesByItselfAndIsHeldUntilItsImageIsThere(t *testing.T) {
	server, client := backendtest.Start(t)
	server.TakesLayers = true
	held := map[string][]byte{}
	server.Before = func(procedure string) {
		if procedure == "LoadImage" {
			held = server.Layers()
		}
	}
	top := layer()
	id, err := client.InstallImage(t.Context(), []byte("{}"), []digest.Digest{top.DiffID}, top, nil, true)
	assert.NilError(t, err)
	if there := server.Images(); len(there) != 1 || there[0] != id {
		t.Errorf("has %v instead of %s", there, id)
	}
	assert.Check(t, bytes.Equal(held[top.DiffID.String()], layerBytes), "the layer was not there when its image came: %d", len(held))
	assert.Check(t, !server.Archived("blobs/sha256/"+top.DiffID.Encoded()), "the layer came in the archive, too")
}

func TestALayerThatAnotherWasTakenForMakesNoImage(t *testing.T) {
	server, client := backendtest.Start(t)
	server.TakesLayers = true
	top := layer()
	top.DiffID = digest.FromString("another")
	_, err := client.InstallImage(t.Context(), []byte("{}"), []digest.Digest{top.DiffID}, top, nil, true)
	if err == nil || !strings.Contains(err.Error(), "was taken as") || len(server.Images()) != 0 {
		t.Errorf("answered %v with %v", err, server.Images())
	}
}

// failing is content that cannot be read to its end.
type failing struct{}

func (failing) WriteTo(to io.Writer) (int64, error) {
	n, err := to.Write(layerBytes)
	return int64(n), errors.Join(err, io.ErrUnexpectedEOF)
}

func TestALayerThatIsCutMakesNoImage(t *testing.T) {
	server, client := backendtest.Start(t)
	server.TakesLayers = true
	top := layer()
	top.Content = failing{}
	_, err := client.InstallImage(t.Context(), []byte("{}"), []digest.Digest{top.DiffID}, top, nil, true)
	assert.Check(t, is.ErrorIs(err, io.ErrUnexpectedEOF))
	assert.Check(t, is.Len(server.Images(), 0))
}

func TestALayerThatIsLostWithItsBackendIsSentAgain(t *testing.T) {
	server, client := backendtest.Start(t)
	server.TakesLayers, server.LosesALayer = true, true
	loads := 0
	server.Before = func(procedure string) {
		if procedure == "LoadImage" {
			loads++
		}
	}
	top := layer()
	id, err := client.InstallImage(t.Context(), []byte("{}"), []digest.Digest{top.DiffID}, top, nil, true)
	if err != nil || loads != 2 {
		t.Fatalf("%d loads: %v", loads, err)
	}
	if there := server.Images(); len(there) != 1 || there[0] != id {
		t.Errorf("has %v instead of %s", there, id)
	}
}

func TestABuildThatIsCancelledWhileALayerGoesMakesNoImage(t *testing.T) {
	for _, procedure := range []string{"ReceiveLayer", "ArchivePut"} {
		server, client := backendtest.Start(t)
		server.TakesLayers = true
		ctx := cancelledIn(server, procedure)
		top := layer()
		if _, err := client.InstallImage(ctx, []byte("{}"), []digest.Digest{top.DiffID}, top, nil, true); err == nil {
			t.Errorf("%s: succeeded", procedure)
		}
		left := server.Images()
		assert.Check(t, is.Len(left, 0), "%s: left", procedure)
		assert.Check(t, context.Cause(ctx) != nil, "%s was not called", procedure)
	}
}
