package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/distribution/reference"
	"github.com/moby/buildkit/session"
	sessioncontent "github.com/moby/buildkit/session/content"
	"github.com/moby/buildkit/util/contentutil"
	"github.com/moby/buildkit/util/resolver"
	"github.com/moby/buildkit/util/resolver/limited"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sockerless/sockerless/builder/worker"
)

// cacheSource is where a build cache is, with the descriptor of its manifest.
type cacheSource func(ctx context.Context, group session.Group, attributes map[string]string) (content.Provider, ocispecs.Descriptor, error)

// registryCache finds build caches in registries. The attributes are those of `--cache-from type=registry`.
func registryCache(sessions *session.Manager, hosts func(insecure bool) docker.RegistryHosts) cacheSource {
	return func(ctx context.Context, group session.Group, attributes map[string]string) (content.Provider, ocispecs.Descriptor, error) {
		named, err := reference.ParseNormalizedNamed(attributes["ref"])
		if err != nil {
			return nil, ocispecs.Descriptor{}, fmt.Errorf("ref of a build cache: %w", err)
		}
		scope := resolver.ScopeType{}
		if text, ok := attributes["registry.insecure"]; ok {
			if scope.Insecure, err = strconv.ParseBool(text); err != nil {
				return nil, ocispecs.Descriptor{}, fmt.Errorf("registry.insecure of a build cache: %w", err)
			}
		}
		ref := reference.TagNameOnly(named).String()
		ctx = worker.ForBuilds(ctx, group)
		registry := resolver.DefaultPool.GetResolver(hosts(scope.Insecure), ref, scope, sessions, group)
		name, manifest, err := registry.Resolve(ctx, ref)
		return &registryProvider{registry, group, ref, name}, manifest, err
	}
}

// registryProvider reads blobs of a repository with the credentials of a session.
type registryProvider struct {
	registry *resolver.Resolver
	group    session.Group
	ref      string
	// The reference as the registry resolved it.
	name string
}

func (p *registryProvider) ReaderAt(ctx context.Context, desc ocispecs.Descriptor) (content.ReaderAt, error) {
	ctx = worker.ForBuilds(ctx, p.group)
	fetcher, err := p.registry.Fetcher(ctx, p.name)
	if err != nil {
		return nil, err
	}
	return contentutil.FromFetcher(limited.Default.WrapFetcher(fetcher, p.ref)).ReaderAt(ctx, desc)
}

func (p *registryProvider) ProviderForSession(group session.Group) content.Provider {
	return &registryProvider{p.registry.WithSession(group), group, p.ref, p.name}
}

// sessionLimit bounds the wait for the session of a cache's client.
const sessionLimit = 5 * time.Second

// directoryCache finds build caches in directories of clients. The attributes are those of `--cache-from type=local`.
func directoryCache(sessions *session.Manager) cacheSource {
	return func(ctx context.Context, group session.Group, attributes map[string]string) (content.Provider, ocispecs.Descriptor, error) {
		directory := attributes["src"]
		root, err := digest.Parse(attributes["digest"])
		id := group.SessionIterator().NextSession()
		if err != nil || directory == "" || id == "" {
			return nil, ocispecs.Descriptor{}, errors.New("a local build cache needs src, digest and a session")
		}
		waiting, cancel := context.WithTimeout(ctx, sessionLimit)
		defer cancel()
		caller, err := sessions.Get(waiting, id, false)
		if err != nil {
			return nil, ocispecs.Descriptor{}, err
		}
		store := sessioncontent.NewCallerStore(caller, "local:"+directory)
		info, err := store.Info(ctx, root)
		return store, ocispecs.Descriptor{Digest: root, Size: info.Size}, err
	}
}

const (
	// maxDescription bounds one manifest or configuration of a cache, as BuildKit does.
	maxDescription = 4 << 20
	// maxDescriptions bounds all of an import's.
	maxDescriptions = 64 << 20
)

// boundedProvider refuses sizes that BuildKit would allocate whatever they are, and addresses in place of the cache's
// own. Both are the words of a registry or a client.
type boundedProvider struct {
	content.Provider
	*described
}

// described counts what an import has read of a cache before its layers.
type described struct {
	bytes atomic.Int64
	// Those of putting its records together.
	steps atomic.Int64
	// True once the cache is described: what is read then are layers.
	isWhole atomic.Bool
}

func (p *boundedProvider) ReaderAt(ctx context.Context, desc ocispecs.Descriptor) (content.ReaderAt, error) {
	desc.URLs = nil
	reader, err := p.Provider.ReaderAt(ctx, desc)
	if err != nil {
		return nil, err
	}
	size := reader.Size()
	if err := p.check(size); err != nil {
		return nil, errors.Join(fmt.Errorf("sockerless: %s of a build cache: %w", desc.Digest, err), reader.Close())
	}
	if p.isWhole.Load() {
		return reader, nil
	}
	document := make([]byte, size)
	n, err := reader.ReadAt(document, 0)
	if err == nil || err == io.EOF {
		err = checkDescription(document[:n], &p.steps)
	}
	if err = errors.Join(err, reader.Close()); err != nil {
		return nil, fmt.Errorf("sockerless: %s of a build cache: %w", desc.Digest, err)
	}
	return &documentReader{bytes.NewReader(document[:n]), size}, nil
}

func (d *described) check(size int64) error {
	switch {
	case size < 0:
		return fmt.Errorf("%d bytes", size)
	case d.isWhole.Load():
		return nil
	case size > maxDescription:
		return fmt.Errorf("%d bytes, more than %d", size, maxDescription)
	case d.bytes.Add(size) > maxDescriptions:
		return fmt.Errorf("more than %d bytes of descriptions", maxDescriptions)
	}
	return nil
}

func (p *boundedProvider) ProviderForSession(group session.Group) content.Provider {
	return &boundedProvider{contentutil.ProviderForSession(p.Provider, group), p.described}
}
