package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"

	"connectrpc.com/connect"
	"github.com/distribution/reference"
	"github.com/moby/buildkit/cache"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/auth"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/source"
	"github.com/moby/buildkit/source/containerimage"
	"github.com/moby/buildkit/source/git"
	"github.com/moby/buildkit/source/http"
	srctypes "github.com/moby/buildkit/source/types"
	"github.com/moby/buildkit/util/cachedigest"
	"github.com/moby/buildkit/util/progress"
	"github.com/moby/buildkit/util/resolver"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sockerless/sockerless/builder/backend"
	backendv1 "github.com/sockerless/sockerless/proto/gen/sockerless/backend/v1"
)

// imageSource gets base images from the backend, which pulls missing ones.
type imageSource struct{ worker *Worker }

func (s *imageSource) Schemes() []string { return []string{srctypes.DockerImageScheme} }

func (s *imageSource) Identifier(_, name string, attributes map[string]string, platform *pb.Platform) (source.Identifier, error) {
	id, err := containerimage.NewImageIdentifier(name)
	if err != nil {
		return nil, err
	}
	if platform != nil {
		spec := platform.Spec()
		id.Platform = &spec
	}
	id.ResolveMode, err = resolver.ParseImageResolveMode(attributes[pb.AttrImageResolveMode])
	return id, err
}

func (s *imageSource) Resolve(_ context.Context, id source.Identifier, sessions *session.Manager, _ solver.Vertex) (source.SourceInstance, error) {
	image, ok := id.(*containerimage.ImageIdentifier)
	if !ok {
		return nil, fmt.Errorf("an identifier of type %T for an image", id)
	}
	return &imageInstance{worker: s.worker, id: image, sessions: sessions}, nil
}

type imageInstance struct {
	worker   *Worker
	id       *containerimage.ImageIdentifier
	sessions *session.Manager
	// The image's ID once CacheKey has told of it: files of another are not stored under its key.
	resolved string
}

// image finds the image: by its name at first, the same one afterwards.
func (i *imageInstance) image(ctx context.Context, job solver.JobContext) (*backendv1.ImageDetail, error) {
	if i.resolved != "" {
		if image, err := i.worker.describe(ctx, i.resolved, job.Session()); !backend.Is(err, connect.CodeNotFound) {
			return image, backend.Plain(err)
		}
	}
	name := i.id.Reference.String()
	image, err := i.worker.ensureImage(ctx, name, false, i.sessions, job.Session())
	if err != nil {
		return nil, err
	}
	if i.resolved != "" && i.resolved != image.Id {
		return nil, fmt.Errorf("%s: image %s was removed while it was being built from, and the name is another's now: build again", name, i.resolved)
	}
	i.resolved = image.Id
	return image, nil
}

// CacheKey is BuildKit's for a registry's image, so that caches are interchangeable. The second key is the image's own,
// independent of its source.
func (i *imageInstance) CacheKey(ctx context.Context, job solver.JobContext, index int) (string, string, solver.CacheOpts, bool, error) {
	image, err := i.image(ctx, job)
	if err != nil {
		return "", "", nil, false, err
	}
	manifest := manifestOf(image, i.id.Reference.Locator)
	if manifest == "" || index > 0 {
		return image.Id, image.Id, nil, true, nil
	}
	key, err := manifestKey(manifest, i.id.Platform)
	return key, image.Id, nil, false, err
}

// manifestOf returns an image's manifest digest in its registry; "" if it has none.
func manifestOf(image *backendv1.ImageDetail, name string) digest.Digest {
	for _, each := range image.RepoDigests {
		named, err := reference.ParseNormalizedNamed(each)
		if err != nil {
			continue
		}
		if digested, ok := named.(reference.Digested); ok && named.Name() == name {
			return digested.Digest()
		}
	}
	return ""
}

// manifestKey is the cache key of source/containerimage.
func manifestKey(manifest digest.Digest, platform *ocispecs.Platform) (string, error) {
	if platform == nil {
		own := platformOfWorker()
		platform = &own
	}
	text, err := json.Marshal(struct {
		Digest     digest.Digest
		OS         string
		Arch       string
		Variant    string   `json:",omitempty"`
		OSVersion  string   `json:",omitempty"`
		OSFeatures []string `json:",omitempty"`
	}{manifest, platform.OS, platform.Architecture, platform.Variant, platform.OSVersion, platform.OSFeatures})
	if err != nil {
		return "", err
	}
	key, err := cachedigest.FromBytes(text, cachedigest.TypeJSON)
	return key.String(), err
}

func (i *imageInstance) Snapshot(ctx context.Context, job solver.JobContext) (cache.ImmutableRef, error) {
	image, err := i.image(ctx, job)
	if err != nil || len(image.DiffIds) == 0 {
		return nil, err
	}
	diffIDs := make([]digest.Digest, len(image.DiffIds))
	for at, each := range image.DiffIds {
		diffIDs[at] = digest.Digest(each)
	}
	state, err := i.worker.states.install(ctx, diffIDs, nil, origin{
		description: "pulled from " + i.id.Reference.String(), kind: client.UsageRecordTypeRegular,
	})
	if err != nil {
		return nil, err
	}
	return i.worker.stateRef(state), nil
}

// ensureImage returns an image of the backend, which pulls it if it is missing or with `anew`. Credentials come from
// the build's session.
func (w *Worker) ensureImage(ctx context.Context, name string, anew bool, sessions *session.Manager, group session.Group) (*backendv1.ImageDetail, error) {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return nil, err
	}
	wanted := named.String()
	if digested, ok := named.(reference.Digested); ok {
		wanted = named.Name() + "@" + digested.Digest().String()
	}
	image, err := w.describe(ctx, wanted, group)
	if anew || backend.Is(err, connect.CodeNotFound) {
		if pullErr := w.pull(ctx, named, wanted, anew, sessions, group); pullErr != nil {
			return nil, fmt.Errorf("%s: %w", name, pullErr)
		}
		image, err = w.describe(ctx, wanted, group)
	}
	if err != nil {
		return nil, backend.Plain(err)
	}
	if platform := image.Platform; platform.GetArchitecture() != runtime.GOARCH {
		return nil, fmt.Errorf("sockerless: %s is for %s/%s, of which a build is not implemented by this backend", name, platform.GetOs(), platform.GetArchitecture())
	}
	return image, nil
}

// describe returns the backend's description of an image.
func (w *Worker) describe(ctx context.Context, name string, group session.Group) (*backendv1.ImageDetail, error) {
	leave, err := w.described.takeOf(ctx, group)
	if err != nil {
		return nil, err
	}
	defer leave()
	return w.backend.Image(ctx, name)
}

func (w *Worker) pull(ctx context.Context, named reference.Named, wanted string, anew bool, sessions *session.Manager, group session.Group) error {
	leave, err := w.transfers.takeOf(ctx, group)
	if err != nil {
		return err
	}
	defer leave()
	if !anew { // Another stage may have pulled it during the wait.
		if _, err := w.describe(ctx, wanted, group); !backend.Is(err, connect.CodeNotFound) {
			return backend.Plain(err)
		}
	}
	credentials, err := credentialsFor(ctx, named, sessions, group)
	if err != nil {
		return err
	}
	done := progress.OneOff(ctx, "pulling "+reference.FamiliarString(named))
	return done(backend.Plain(w.backend.PullImage(ctx, &backendv1.PullImageRequest{
		Reference: wanted, Auth: credentials, Platform: &backendv1.Platform{Os: "linux", Architecture: runtime.GOARCH},
	})))
}

// credentialsFor requests a registry's credentials from the build's session, and does not store them.
func credentialsFor(ctx context.Context, named reference.Named, sessions *session.Manager, group session.Group) (*backendv1.RegistryAuth, error) {
	host := reference.Domain(named)
	if host == "docker.io" {
		host = "registry-1.docker.io"
	}
	if group == nil || group.SessionIterator() == nil {
		return nil, nil
	}
	_, username, secret, err := auth.CredentialsFunc(ctx, sessions, group)(host)
	if err != nil || (username == "" && secret == "") {
		return nil, err
	}
	if username == "" {
		return &backendv1.RegistryAuth{IdentityToken: secret, ServerAddress: reference.Domain(named)}, nil
	}
	return &backendv1.RegistryAuth{Username: username, Password: secret, ServerAddress: reference.Domain(named)}, nil
}

// ResolveSourceMetadata returns the configuration of an image, as for a Dockerfile's FROM.
func (w *Worker) ResolveSourceMetadata(ctx context.Context, op *pb.SourceOp, options sourceresolver.Opt, sessions *session.Manager, job solver.JobContext) (_ *sourceresolver.MetaResponse, err error) {
	defer Recovered(&err)
	var group session.Group
	if job != nil {
		group = job.Session()
	}
	if name, ok := strings.CutPrefix(op.Identifier, srctypes.OCIScheme+"://"); ok {
		return w.resolveLayout(ctx, op, name, options, sessions, group)
	}
	name, ok := strings.CutPrefix(op.Identifier, srctypes.DockerImageScheme+"://")
	if !ok {
		return w.resolveFiles(ctx, op, options, sessions, job)
	}
	mode := op.Attrs[pb.AttrImageResolveMode]
	if options.ImageOpt != nil && options.ImageOpt.ResolveMode != "" {
		mode = options.ImageOpt.ResolveMode
	}
	image, err := w.ensureImage(ctx, name, mode == pb.AttrImageResolveModeForcePull, sessions, group)
	if err != nil {
		return nil, err
	}
	config, err := w.backend.ImageConfig(ctx, image.Id)
	if err != nil {
		return nil, backend.Plain(err)
	}
	return &sourceresolver.MetaResponse{Op: op, Image: &sourceresolver.ResolveImageResponse{Config: config}}, nil
}

// resolveFiles returns metadata of a git repository or a web file without reading it as a source, and empty metadata
// for a client's files.
func (w *Worker) resolveFiles(ctx context.Context, op *pb.SourceOp, options sourceresolver.Opt, sessions *session.Manager, job solver.JobContext) (*sourceresolver.MetaResponse, error) {
	id, err := w.sources.Identifier(&pb.Op_Source{Source: op}, nil)
	if err != nil {
		return nil, err
	}
	answer := &sourceresolver.MetaResponse{Op: op}
	switch id := id.(type) {
	case *git.GitIdentifier:
		wanted := git.MetadataOpts{}
		if options.GitOpt != nil {
			wanted.ReturnObject = options.GitOpt.ReturnObject
		}
		known, err := w.git.ResolveMetadata(ctx, id, sessions, job, wanted)
		if err != nil {
			return nil, err
		}
		answer.Git = &sourceresolver.ResolveGitResponse{
			Checksum: known.Checksum, Ref: known.Ref, CommitChecksum: known.CommitChecksum,
			CommitObject: known.CommitObject, TagObject: known.TagObject,
		}
	case *http.HTTPIdentifier:
		wanted := http.MetadataOpts{}
		if options.HTTPOpt != nil && options.HTTPOpt.ChecksumReq != nil {
			asked := options.HTTPOpt.ChecksumReq
			wanted.ChecksumReq = &http.MetadataChecksumRequest{Algo: http.MetadataChecksumAlgo(asked.Algo), Suffix: asked.Suffix}
		}
		known, err := w.downloads.ResolveMetadata(ctx, id, sessions, job, wanted)
		if err != nil {
			return nil, err
		}
		answer.HTTP = &sourceresolver.ResolveHTTPResponse{Digest: known.Digest, Filename: known.Filename, LastModified: known.LastModified}
		if sum := known.ChecksumResponse; sum != nil {
			answer.HTTP.ChecksumResponse = &sourceresolver.ResolveHTTPChecksumResponse{Digest: sum.Digest, Suffix: sum.Suffix}
		}
	}
	return answer, nil
}

// unbuiltSource refuses unsupported schemes by name.
type unbuiltSource struct{ schemes []string }

func (s *unbuiltSource) Schemes() []string { return s.schemes }
func (s *unbuiltSource) Identifier(scheme, name string, _ map[string]string, _ *pb.Platform) (source.Identifier, error) {
	return nil, notImplemented(scheme + "://" + name)
}
func (s *unbuiltSource) Resolve(context.Context, source.Identifier, *session.Manager, solver.Vertex) (source.SourceInstance, error) {
	return nil, errors.ErrUnsupported
}

func notImplemented(source string) error {
	return fmt.Errorf("sockerless: %s as a source is not implemented by the builder; bring the files with the context", source)
}
