package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	ctdcontent "github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/pkg/labels"
	"github.com/containerd/platforms"
	"github.com/moby/buildkit/cache"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/session"
	sessioncontent "github.com/moby/buildkit/session/content"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/source"
	"github.com/moby/buildkit/source/containerimage"
	srctypes "github.com/moby/buildkit/source/types"
	"github.com/moby/buildkit/util/imageutil"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// ociLayoutSource reads base images from OCI layouts of a build's client, which sends only what is read.
type ociLayoutSource struct{ worker *Worker }

func (s *ociLayoutSource) Schemes() []string { return []string{srctypes.OCIScheme} }

func (s *ociLayoutSource) Identifier(_, name string, attributes map[string]string, platform *pb.Platform) (source.Identifier, error) {
	id, err := containerimage.NewOCIIdentifier(name)
	if err != nil {
		return nil, err
	}
	if platform != nil {
		spec := platform.Spec()
		id.Platform = &spec
	}
	id.SessionID, id.StoreID = attributes[pb.AttrOCILayoutSessionID], attributes[pb.AttrOCILayoutStoreID]
	return id, nil
}

func (s *ociLayoutSource) Resolve(_ context.Context, id source.Identifier, sessions *session.Manager, _ solver.Vertex) (source.SourceInstance, error) {
	layout, ok := id.(*containerimage.OCIIdentifier)
	if !ok {
		return nil, fmt.Errorf("an identifier of type %T for an OCI layout", id)
	}
	return &ociLayoutInstance{worker: s.worker, id: layout, sessions: sessions}, nil
}

type ociLayoutInstance struct {
	worker   *Worker
	id       *containerimage.OCIIdentifier
	sessions *session.Manager
}

// CacheKey is BuildKit's.
func (i *ociLayoutInstance) CacheKey(context.Context, solver.JobContext, int) (string, string, solver.CacheOpts, bool, error) {
	root := i.id.Reference.Digest()
	key, err := manifestKey(root, i.id.Platform)
	return key, root.String(), nil, true, err
}

func (i *ociLayoutInstance) Snapshot(ctx context.Context, job solver.JobContext) (made cache.ImmutableRef, err error) {
	err = readLayout(ctx, i.id, i.sessions, job.Session(), func(ctx context.Context, image *layoutImage) error {
		if len(image.layers) == 0 {
			return nil
		}
		made, err = i.worker.FromRemote(ctx, &solver.Remote{Descriptors: image.layers, Provider: image.store})
		return err
	})
	return made, err
}

// maxDocument bounds the manifests and configurations from a client, as BuildKit does.
const maxDocument = 4 << 20

// layoutImage is an image of an OCI layout.
type layoutImage struct {
	root   digest.Digest
	config []byte
	// Each is annotated with its uncompressed digest.
	layers []ocispecs.Descriptor
	store  ctdcontent.Store
}

// readLayout passes the image of a layout to `use` while its client's session exists. All digests are verified, since
// others may build from the same cache.
func readLayout(ctx context.Context, id *containerimage.OCIIdentifier, sessions *session.Manager, group session.Group, use func(context.Context, *layoutImage) error) error {
	read := func(ctx context.Context, caller session.Caller) error {
		image := &layoutImage{root: id.Reference.Digest(), store: sessioncontent.NewCallerStore(caller, "oci:"+id.StoreID)}
		if err := image.read(ctx, id.Platform); err != nil {
			return fmt.Errorf("oci-layout://%s: %w", id.Reference.String(), err)
		}
		return use(ctx, image)
	}
	if id.SessionID == "" {
		return sessions.Any(ctx, group, func(ctx context.Context, _ string, caller session.Caller) error { return read(ctx, caller) })
	}
	caller, err := sessions.Get(ctx, id.SessionID, true)
	if err != nil {
		return err
	}
	if caller == nil {
		return errors.New("the client of an OCI layout has left")
	}
	return read(ctx, caller)
}

func (l *layoutImage) read(ctx context.Context, platform *ocispecs.Platform) error {
	if l.root == "" {
		return errors.New("an image of a layout is named by its digest")
	}
	info, err := l.store.Info(ctx, l.root)
	if err != nil {
		return err
	}
	document, err := l.document(ctx, ocispecs.Descriptor{Digest: l.root, Size: info.Size})
	if err != nil {
		return err
	}
	kind, err := imageutil.DetectManifestBlobMediaType(document)
	if err != nil {
		return err
	}
	wanted := platformOfWorker()
	if platform != nil {
		wanted = *platform
	}
	if images.IsIndexType(kind) {
		var index ocispecs.Index
		if err := json.Unmarshal(document, &index); err != nil {
			return err
		}
		matches := platforms.Only(wanted)
		found := false
		for _, each := range index.Manifests {
			if found = each.Platform != nil && matches.Match(*each.Platform); found {
				if document, err = l.document(ctx, each); err != nil {
					return err
				}
				break
			}
		}
		if !found {
			return fmt.Errorf("no match for platform in manifest: %s", platforms.Format(wanted))
		}
	}
	var manifest ocispecs.Manifest
	if err := json.Unmarshal(document, &manifest); err != nil {
		return err
	}
	if l.config, err = l.document(ctx, manifest.Config); err != nil {
		return err
	}
	var config ocispecs.Image
	if err := json.Unmarshal(l.config, &config); err != nil {
		return err
	}
	if len(config.RootFS.DiffIDs) != len(manifest.Layers) {
		return errors.New("the manifest has other layers than the configuration")
	}
	for at, each := range manifest.Layers {
		each.Annotations = map[string]string{
			labels.LabelUncompressed: config.RootFS.DiffIDs[at].String(), annotationDescription: "from oci-layout://" + l.root.String(),
		}
		l.layers = append(l.layers, each)
	}
	return nil
}

// document reads a descriptor's whole content.
func (l *layoutImage) document(ctx context.Context, of ocispecs.Descriptor) ([]byte, error) {
	if of.Size < 0 || of.Size > maxDocument {
		return nil, fmt.Errorf("%s has %d bytes", of.Digest, of.Size)
	}
	if err := of.Digest.Validate(); err != nil {
		return nil, err
	}
	reader, err := l.store.ReaderAt(ctx, of)
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	// The store may tell another size than its client did before.
	content, err := io.ReadAll(io.NewSectionReader(reader, 0, of.Size))
	if err != nil {
		return nil, err
	}
	if of.Digest.Algorithm().FromBytes(content) != of.Digest {
		return nil, fmt.Errorf("what the client sends is not %s", of.Digest)
	}
	return content, nil
}

// resolveLayout returns the configuration of a layout's image.
func (w *Worker) resolveLayout(ctx context.Context, op *pb.SourceOp, name string, options sourceresolver.Opt, sessions *session.Manager, group session.Group) (*sourceresolver.MetaResponse, error) {
	id, err := containerimage.NewOCIIdentifier(name)
	if err != nil {
		return nil, err
	}
	id.SessionID, id.StoreID = op.Attrs[pb.AttrOCILayoutSessionID], op.Attrs[pb.AttrOCILayoutStoreID]
	if asked := options.OCILayoutOpt; asked != nil {
		id.Platform = asked.Platform
		if asked.Store.StoreID != "" {
			id.SessionID, id.StoreID = asked.Store.SessionID, asked.Store.StoreID
		}
	}
	made := &sourceresolver.MetaResponse{Op: op}
	return made, readLayout(ctx, id, sessions, group, func(_ context.Context, image *layoutImage) error {
		made.Image = &sourceresolver.ResolveImageResponse{Digest: image.root, Config: image.config}
		return nil
	})
}
