package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/distribution/reference"
	"github.com/moby/buildkit/cache"
	"github.com/moby/buildkit/exporter"
	"github.com/moby/buildkit/exporter/containerimage"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/util/compression"
	"github.com/moby/buildkit/util/progress"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sockerless/sockerless/builder/backend"
	backendv1 "github.com/sockerless/sockerless/proto/gen/sockerless/backend/v1"
)

// imageExporter makes a build's result an image of the backend, and pushes it. BuildKit's own exporter pushes an image
// for several platforms, which no backend can keep.
type imageExporter struct {
	worker   *Worker
	sessions *session.Manager
	hosts    docker.RegistryHosts
	kind     string
}

type imageExport struct {
	*imageExporter
	id         int
	attributes map[string]string
	names      []reference.Named
	push       bool
}

func (e *imageExporter) Resolve(_ context.Context, id int, attributes map[string]string) (exporter.ExporterInstance, error) {
	made := &imageExport{imageExporter: e, id: id, attributes: attributes}
	for _, each := range strings.Split(attributes[string(exptypes.OptKeyName)], ",") {
		if each == "" || each == "*" {
			continue
		}
		named, err := reference.ParseNormalizedNamed(each)
		if err != nil {
			return nil, fmt.Errorf("failed to parse %s: %w", each, err)
		}
		made.names = append(made.names, reference.TagNameOnly(named))
	}
	var err error
	made.push, err = isOn(attributes, exptypes.OptKeyPush, false)
	return made, err
}

// stateExporter makes images of states with layers. BuildKit takes a result's first layer unchecked, and would crash
// the builder without one.
type stateExporter struct {
	exporter.Exporter
	worker *Worker
}

type stateExport struct {
	exporter.ExporterInstance
	worker *Worker
}

func (e *stateExporter) Resolve(ctx context.Context, id int, attributes map[string]string) (exporter.ExporterInstance, error) {
	made, err := e.Exporter.Resolve(ctx, id, attributes)
	if err != nil {
		return nil, err
	}
	return &stateExport{made, e.worker}, nil
}

func (e *stateExport) Export(ctx context.Context, source *exporter.Source, build exporter.ExportBuildInfo) (_ map[string]string, _ exporter.FinalizeFunc, _ exporter.DescriptorReference, err error) {
	defer Recovered(&err)
	states, release, err := e.worker.statesOf(ctx, source)
	defer release()
	if err != nil {
		return nil, nil, nil, err
	}
	return e.ExporterInstance.Export(ctx, states, build)
}

// statesOf returns a result in which a directory used as a named context has become a state, and a result without
// layers is empty; and a function that releases the states created for it.
func (w *Worker) statesOf(ctx context.Context, source *exporter.Source) (*exporter.Source, func(), error) {
	var made []func(context.Context) error
	release := func() {
		for _, each := range made {
			Warn("let go of an exported directory", each(context.WithoutCancel(ctx)))
		}
	}
	exported := func(from cache.ImmutableRef) (cache.ImmutableRef, error) {
		known, ok := from.(*ref)
		if !ok {
			return from, nil
		}
		if known.isState() {
			if len(known.diffIDs) == 0 {
				return nil, nil
			}
			return from, nil
		}
		state, letGo, err := w.baseOf(ctx, known)
		if err != nil {
			return nil, err
		}
		made = append(made, letGo)
		return state, nil
	}
	states := source.Clone()
	var err error
	if states.Ref, err = exported(source.Ref); err != nil {
		return nil, release, err
	}
	for key, each := range source.Refs {
		if states.Refs[key], err = exported(each); err != nil {
			return nil, release, err
		}
	}
	return states, release, nil
}

// isOn parses an option as BuildKit does: one without a value is on.
func isOn(attributes map[string]string, name exptypes.ImageExporterOptKey, otherwise bool) (bool, error) {
	text, ok := attributes[string(name)]
	if !ok {
		return otherwise, nil
	}
	if text == "" {
		return true, nil
	}
	on, err := strconv.ParseBool(text)
	if err != nil {
		return false, fmt.Errorf("non-bool value specified for %s: %w", name, err)
	}
	return on, nil
}

func (e *imageExport) ID() int                  { return e.id }
func (e *imageExport) Name() string             { return "exporting to image" }
func (e *imageExport) Type() string             { return e.kind }
func (e *imageExport) Attrs() map[string]string { return e.attributes }
func (e *imageExport) Config() *exporter.Config {
	return exporter.NewConfigWithCompression(compression.New(compression.Default))
}

func (e *imageExport) Export(ctx context.Context, source *exporter.Source, build exporter.ExportBuildInfo) (map[string]string, exporter.FinalizeFunc, exporter.DescriptorReference, error) {
	platforms, err := exptypes.ParsePlatforms(source.Metadata)
	if err != nil {
		return nil, nil, nil, err
	}
	if len(platforms.Platforms) > 1 || len(source.Refs) > 1 {
		return e.exportIndex(ctx, source, build)
	}
	if err := refuseOptions(e.attributes); err != nil {
		return nil, nil, nil, err
	}
	response, err := e.export(ctx, source, build, &platforms.Platforms[0])
	return response, nil, nil, err
}

// unbuiltOptions are boolean options that would make a different single-platform image, or name, than the backend
// makes.
var unbuiltOptions = []exptypes.ImageExporterOptKey{
	exptypes.OptKeyPushByDigest, exptypes.OptKeyNameCanonical, exptypes.OptKeyOCITypes, exptypes.OptKeyRewriteTimestamp,
	exptypes.OptKeyForceCompression, exptypes.OptKeyPreferNondistLayers, exptypes.OptKeyInsecure, exptypes.OptKeyDanglingEmptyOnly,
	exptypes.OptKeyOCIArtifact, exptypes.OptKeyForceInlineAttestations,
}

// refuseOptions refuses options that a single-platform image would ignore. Unknown ones are metadata, as in BuildKit.
func refuseOptions(attributes map[string]string) error {
	refusal := func(name string) error {
		return fmt.Errorf("sockerless: --output with %s=%s is not implemented by the builder for an image of one platform", name, attributes[name])
	}
	for _, name := range unbuiltOptions {
		if on, err := isOn(attributes, name, false); err != nil {
			return err
		} else if on {
			return refusal(string(name))
		}
	}
	// Every image of the backend is ready to run, whatever `unpack` says.
	if _, err := isOn(attributes, exptypes.OptKeyUnpack, false); err != nil {
		return err
	}
	if stored, err := isOn(attributes, exptypes.OptKeyStore, true); err != nil {
		return err
	} else if !stored {
		return refusal(string(exptypes.OptKeyStore))
	}
	for name := range attributes {
		switch exptypes.ImageExporterOptKey(name) {
		case exptypes.OptKeyLayerCompression, exptypes.OptKeyCompressionLevel, exptypes.OptKeyDanglingPrefix:
			return refusal(name)
		}
		if strings.HasPrefix(name, "annotation") {
			return refusal(name)
		}
	}
	return nil
}

// exportIndex pushes an image for several platforms under one name.
func (e *imageExport) exportIndex(ctx context.Context, source *exporter.Source, build exporter.ExportBuildInfo) (map[string]string, exporter.FinalizeFunc, exporter.DescriptorReference, error) {
	if !e.push {
		return nil, nil, nil, errors.New("sockerless: an image of several platforms is kept by no backend: --push it, or write it with --output type=oci")
	}
	made, err := containerimage.New(containerimage.Opt{
		SessionManager: e.sessions, ImageWriter: e.worker.images, RegistryHosts: e.hosts, LeaseManager: e.worker.leases,
	})
	if err != nil {
		return nil, nil, nil, err
	}
	instance, err := made.Resolve(ctx, e.id, e.attributes)
	if err != nil {
		return nil, nil, nil, err
	}
	return instance.Export(ctx, source, build)
}

func (e *imageExport) export(ctx context.Context, source *exporter.Source, build exporter.ExportBuildInfo, platform *exptypes.Platform) (map[string]string, error) {
	var result *ref
	if found, ok := source.FindRef(platform.ID); ok && found != nil {
		var err error
		if result, err = stateOf(found); err != nil {
			return nil, err
		}
	}
	var diffIDs []digest.Digest
	if result != nil {
		diffIDs = result.diffIDs
	}
	made, err := e.worker.states.madeAt(diffIDs)
	if err != nil {
		return nil, err
	}
	inline, err := inlineCache(ctx, build.InlineCache, platform)
	if err != nil {
		return nil, err
	}
	config, err := finalConfig(exptypes.ParseKey(source.Metadata, exptypes.ExporterImageConfigKey, platform), diffIDs, made, inline)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, each := range e.names {
		names = append(names, each.String())
	}
	done := progress.OneOff(ctx, "writing image "+digest.FromBytes(config).String())
	id, err := e.worker.backend.InstallImage(ctx, config, diffIDs, nil, names, false)
	if done(err) != nil {
		return nil, backend.Plain(err)
	}
	response := map[string]string{
		exptypes.ExporterImageDigestKey: id, exptypes.ExporterImageConfigDigestKey: id, exptypes.ExporterImageNameKey: strings.Join(names, ","),
	}
	for _, each := range names {
		// It already has the name, but without an event.
		naming := progress.OneOff(ctx, "naming to "+each)
		if err := naming(e.worker.backend.TagImage(ctx, id, each)); err != nil {
			return nil, backend.Plain(err)
		}
	}
	if e.push {
		for _, each := range e.names {
			pushed, err := e.pushImage(ctx, each, build.SessionID)
			if err != nil {
				return nil, err
			}
			response[exptypes.ExporterImageDigestKey] = pushed
		}
	}
	return response, nil
}

// inlineCache returns the build cache embedded in an image; nil if not requested.
func inlineCache(ctx context.Context, ask exptypes.InlineCache, platform *exptypes.Platform) ([]byte, error) {
	if ask == nil {
		return nil, nil
	}
	result, err := ask(context.WithValue(ctx, ofInlineCache{}, true))
	if err != nil || result == nil {
		return nil, err
	}
	if found, ok := result.FindRef(platform.ID); ok && found != nil {
		return found.Data, nil
	}
	return nil, nil
}

// finalConfig is the frontend's configuration with its final layers and their creation times, so that equal layers make
// equal images, and with an inline cache.
func finalConfig(made []byte, diffIDs []digest.Digest, times []time.Time, inline []byte) ([]byte, error) {
	if len(made) == 0 {
		made = []byte(fmt.Sprintf(`{"architecture":%q,"os":"linux","config":{}}`, platformOfWorker().Architecture))
	}
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(made, &fields); err != nil {
		return nil, fmt.Errorf("failed to parse image config for patch: %w", err)
	}
	var history []ocispecs.History
	if data, ok := fields["history"]; ok {
		if err := json.Unmarshal(data, &history); err != nil {
			return nil, fmt.Errorf("failed to parse the history of an image config: %w", err)
		}
	}
	history = withLayers(history, times)
	if diffIDs == nil {
		diffIDs = []digest.Digest{}
	}
	values := map[string]any{"history": history, "rootfs": ocispecs.RootFS{Type: "layers", DiffIDs: diffIDs}}
	if inline != nil {
		values["moby.buildkit.cache.v0"] = inline
	}
	for key, value := range values {
		data, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		fields[key] = data
	}
	if _, ok := fields["created"]; !ok {
		var last *time.Time
		for _, each := range history {
			if each.Created != nil {
				last = each.Created
			}
		}
		data, err := json.Marshal(last)
		if err != nil {
			return nil, err
		}
		fields["created"] = data
	}
	return json.Marshal(fields)
}

// withLayers adapts a history to the number of layers, and sets each step's time, as BuildKit does: a step without a
// layer has its predecessor's time, or that of the first new one.
func withLayers(history []ocispecs.History, times []time.Time) []ocispecs.History {
	told := 0
	for at := range history {
		if history[at].EmptyLayer {
			continue
		}
		if told == len(times) {
			history[at].EmptyLayer = true
			continue
		}
		if history[at].Created == nil {
			history[at].Created = &times[told]
		}
		told++
	}
	for ; told < len(times); told++ {
		history = append(history, ocispecs.History{Created: &times[told], Comment: "buildkit.exporter.image.v0"})
	}
	var created *time.Time
	isNew := false
	for _, each := range history {
		if each.Created == nil {
			isNew = true
			continue
		}
		created = each.Created
		if isNew {
			break
		}
	}
	isNew = false
	for at := range history {
		if history[at].Created == nil {
			isNew = true
			history[at].Created = created
		} else if isNew {
			created = history[at].Created
		}
	}
	return history
}

func (e *imageExport) pushImage(ctx context.Context, named reference.Named, sessionID string) (string, error) {
	leave, err := e.worker.transfers.take(ctx, sessionID)
	if err != nil {
		return "", err
	}
	defer leave()
	credentials, err := credentialsFor(ctx, named, e.sessions, session.NewGroup(sessionID))
	if err != nil {
		return "", err
	}
	done := progress.OneOff(ctx, "pushing "+named.String())
	pushed, err := e.worker.backend.PushImage(ctx, &backendv1.PushImageRequest{Reference: named.String(), Auth: credentials})
	return pushed, done(backend.Plain(err))
}

func platformOfWorker() ocispecs.Platform { return (*Worker)(nil).Platforms(true)[0] }
