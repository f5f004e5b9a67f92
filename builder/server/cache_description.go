package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"sync/atomic"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	cacheimporttypes "github.com/moby/buildkit/cache/remotecache/v1/types"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// maxRecordSteps bounds the steps from one record of a cache to another while the records of an import are put together.
	maxRecordSteps = 1 << 24
	// layerSteps are those of a layer, of which BuildKit keeps some hundred bytes for each result above it.
	layerSteps = 16
	// maxRecordLayers bounds those of all results of a record, of which BuildKit computes a digest each time that it looks
	// for them, in the one goroutine that schedules every build.
	maxRecordLayers = 1 << 12
)

// documentReader is a document that has been read.
type documentReader struct {
	*bytes.Reader
	size int64
}

var _ content.ReaderAt = (*documentReader)(nil)

func (d *documentReader) Size() int64  { return d.size }
func (d *documentReader) Close() error { return nil }

// checkDescription refuses a manifest or configuration that BuildKit does not survive: it parses both in goroutines that
// recover nothing. Others that it cannot parse are left to it. The steps are those of all documents of the import.
func checkDescription(document []byte, steps *atomic.Int64) error {
	var index ocispecs.Index
	if json.Unmarshal(document, &index) == nil {
		if err := checkDescriptors(steps, index.Manifests...); err != nil {
			return err
		}
	}
	var manifest ocispecs.Manifest
	if json.Unmarshal(document, &manifest) == nil {
		if err := checkDescriptors(steps, append(manifest.Layers, manifest.Config)...); err != nil {
			return err
		}
	}
	var image struct {
		Rootfs struct {
			DiffIDs []digest.Digest `json:"diff_ids"`
		} `json:"rootfs"`
		Cache   []byte `json:"moby.buildkit.cache.v0"`
		History []struct {
			Created    *time.Time `json:"created"`
			CreatedBy  string     `json:"created_by"`
			EmptyLayer bool       `json:"empty_layer"`
		} `json:"history"`
	}
	if json.Unmarshal(document, &image) == nil && image.Cache != nil {
		made := 0
		for _, each := range image.History {
			if !each.EmptyLayer {
				made++
			}
		}
		if made < len(image.Rootfs.DiffIDs) {
			return errors.New("an image with a build cache has fewer steps than layers")
		}
		var inline []cacheimporttypes.CacheRecord
		if json.Unmarshal(image.Cache, &inline) == nil {
			layers := make([]cacheimporttypes.CacheLayer, len(image.Rootfs.DiffIDs))
			for at := range layers {
				layers[at].ParentIndex = at - 1
			}
			if err := checkRecords(cacheimporttypes.CacheConfig{Layers: layers, Records: inline}, steps); err != nil {
				return err
			}
		}
	}
	var config cacheimporttypes.CacheConfig
	if json.Unmarshal(document, &config) != nil {
		return nil
	}
	return checkRecords(config, steps)
}

// checkDescriptors refuses invalid digests, and checks documents within a descriptor: BuildKit does not read these from
// the provider.
func checkDescriptors(steps *atomic.Int64, descriptors ...ocispecs.Descriptor) error {
	for _, each := range descriptors {
		if err := checkDescription(each.Data, steps); err != nil {
			return err
		}
		if each.Digest == "" {
			continue // It describes nothing.
		}
		if err := each.Digest.Validate(); err != nil {
			return err
		}
	}
	return nil
}

// checkRecords refuses records of which BuildKit could make a loop, whose members it names one after the other without
// an end. It makes one of records with a digest that stand on the same ones, and chooses at random which.
func checkRecords(config cacheimporttypes.CacheConfig, steps *atomic.Int64) error {
	all := &recordGraph{CacheConfig: config, steps: steps, made: map[int]*recordNode{}, roots: map[digest.Digest]*recordNode{}}
	for at := range config.Records {
		if err := all.make(at); err != nil {
			return err
		}
	}
	return nil
}

// recordGraph has the records of a cache as BuildKit puts them together, in its order.
type recordGraph struct {
	cacheimporttypes.CacheConfig
	// By the index of the record; nil while it is made.
	made  map[int]*recordNode
	roots map[digest.Digest]*recordNode
	// BuildKit has chosen at random.
	isRandom bool
	steps    *atomic.Int64
}

// recordNode is a record with those that stand on it.
type recordNode struct {
	// The one that it was joined with.
	joined   *recordNode
	children map[recordLink]map[*recordNode]struct{}
	// The number of records that it is made of, and of links that these stand on.
	members int
	links   int
	// The number of layers of its results.
	layers int
}

// recordLink is how a record with this digest stands on another.
type recordLink struct {
	selector string
	input    int
	digest   digest.Digest
}

var (
	errRecordLoop  = errors.New("the records of the build cache stand on themselves")
	errRecordSteps = errors.New("the records of the build cache have too much in common")
)

// self returns what the record has become.
func (c *recordNode) self() *recordNode {
	for c.joined != nil {
		if c.joined.joined != nil {
			c.joined = c.joined.joined
		}
		c = c.joined
	}
	return c
}

func (c *recordNode) add(link recordLink, child *recordNode) {
	if c.children == nil {
		c.children = map[recordLink]map[*recordNode]struct{}{}
	}
	if c.children[link] == nil {
		c.children[link] = map[*recordNode]struct{}{}
	}
	c.children[link][child] = struct{}{}
}

// make puts a record together, after those that it stands on.
func (c *recordGraph) make(at int) error {
	if made, ok := c.made[at]; ok {
		if made == nil {
			return errRecordLoop
		}
		return nil
	}
	c.made[at] = nil
	if at < 0 || at >= len(c.Records) {
		return errors.New("the build cache lacks a record")
	}
	record := c.Records[at]
	for _, links := range record.Inputs {
		for _, each := range links {
			if err := c.make(each.LinkIndex); err != nil {
				return err
			}
		}
	}
	made, err := c.join(record)
	c.made[at] = made
	if err != nil {
		return err
	}
	return c.countLayers(made, record)
}

// join returns the record as one of those with its digest that stand on the same ones, or as a new one.
func (c *recordGraph) join(record cacheimporttypes.CacheRecord) (*recordNode, error) {
	if len(record.Inputs) == 0 {
		if c.roots[record.Digest] == nil {
			c.roots[record.Digest] = &recordNode{members: 1}
		}
		return c.roots[record.Digest].self(), nil
	}
	same, err := c.sameAs(record)
	if err != nil {
		return nil, err
	}
	above := map[*recordNode]struct{}{}
	for each := range same {
		found, err := c.above(each)
		if err != nil {
			return nil, err
		}
		for other := range found {
			if _, isSame := same[other]; isSame && other != each {
				return nil, errRecordLoop
			}
			above[other] = struct{}{}
		}
	}
	c.isRandom = c.isRandom || len(same) > 1
	var made *recordNode
	for each := range same {
		if made == nil {
			made = each
			continue
		}
		made.members += each.members
		made.links += each.links
		made.layers += each.layers
		for link, children := range each.children {
			for child := range children {
				made.add(link, child)
			}
		}
		each.joined, each.children = made, nil
	}
	if made == nil {
		made = &recordNode{}
	}
	made.members++
	for input, links := range record.Inputs {
		made.links += len(links)
		for _, each := range links {
			on := c.made[each.LinkIndex].self()
			if _, isAbove := above[on]; !isAbove {
				on.add(recordLink{each.Selector, input, record.Digest}, made)
			} else if c.isRandom {
				return nil, errRecordLoop
			}
		}
	}
	return made, nil
}

// sameAs returns the records with a record's digest that stand, by each of its inputs, on one of the same ones.
func (c *recordGraph) sameAs(record cacheimporttypes.CacheRecord) (same map[*recordNode]struct{}, err error) {
	for input, links := range record.Inputs {
		found := map[*recordNode]struct{}{}
		for _, each := range links {
			on := c.made[each.LinkIndex].self()
			for child := range on.children[recordLink{each.Selector, input, record.Digest}] {
				child = child.self()
				if err := c.step(on, child); err != nil {
					return nil, err
				}
				found[child] = struct{}{}
			}
		}
		if input == 0 {
			same = found
			continue
		}
		for each := range same {
			if _, ok := found[each]; !ok {
				delete(same, each)
			}
		}
	}
	return same, nil
}

// above returns a record and all that stand on it.
func (c *recordGraph) above(from *recordNode) (map[*recordNode]struct{}, error) {
	found := map[*recordNode]struct{}{from: {}}
	for left := []*recordNode{from}; len(left) > 0; {
		last := left[len(left)-1]
		left = left[:len(left)-1]
		for _, children := range last.children {
			for child := range children {
				child = child.self()
				if err := c.step(last, child); err != nil {
					return nil, err
				}
				if _, ok := found[child]; !ok {
					found[child] = struct{}{}
					left = append(left, child)
				}
			}
		}
	}
	return found, nil
}

// step counts a step from a record to one that stands on it. Of both BuildKit may have kept each of the records that they
// are made of: it steps from each of the former to each of the latter, and copies the links of these.
func (c *recordGraph) step(from, to *recordNode) error {
	return c.count(from.members * to.links)
}

// countLayers counts the layers of each of a record's results.
func (c *recordGraph) countLayers(made *recordNode, record cacheimporttypes.CacheRecord) error {
	count := func(layers int) error {
		if made.layers += layers; made.layers > maxRecordLayers {
			return errRecordSteps
		}
		return c.count(layerSteps * layers)
	}
	for _, result := range record.ChainedResults {
		if err := count(len(result.LayerIndexes)); err != nil {
			return err
		}
	}
	for _, result := range record.Results {
		for at := result.LayerIndex; at >= 0 && at < len(c.Layers); at = c.Layers[at].ParentIndex {
			if err := count(1); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *recordGraph) count(steps int) error {
	if c.steps.Add(int64(steps)) > maxRecordSteps {
		return errRecordSteps
	}
	return nil
}
