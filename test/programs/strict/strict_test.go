// Package strict reads what sockerless tells with the types of moby's newer
// module, which parse addresses, prefixes, hardware addresses, ports and times
// where the older ones keep text: clients built with them fail on a whole list
// for one word of it. DOCKER_HOST says where, TEST_IMAGE which image (it has
// busybox' sh, true and sleep).
package strict

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/client"
	"github.com/docker/docker/errdefs"
	"github.com/docker/go-connections/nat"
	"github.com/moby/moby/api/types/build"
	strict "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/image"
	strictnetwork "github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"
)

// limit is that of a test; a cloud's containers take seconds each.
const limit = 4 * time.Minute

type reader struct {
	*testing.T
	docker *client.Client
	ctx    context.Context
}

func connect(t *testing.T) reader {
	t.Helper()
	docker, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = docker.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return reader{t, docker, ctx}
}

// get answers the body of a path, and its header.
func (r reader) get(path string) ([]byte, http.Header) {
	r.Helper()
	request, err := http.NewRequestWithContext(r.ctx, http.MethodGet, "http://docker/v1.51"+path, nil)
	if err != nil {
		r.Fatal(err)
	}
	response, err := r.docker.HTTPClient().Do(request)
	if err != nil {
		r.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		r.Fatalf("GET %s: %s %v %s", path, response.Status, err, body)
	}
	return body, response.Header
}

// read gets a path and decodes it.
func (r reader) read(path string, into any) {
	r.Helper()
	body, _ := r.get(path)
	if err := json.Unmarshal(body, into); err != nil {
		r.Errorf("GET %s: %v in\n%s", path, err, body)
	}
}

// instants checks those that the types keep as text.
func (r reader) instants(texts ...string) {
	r.Helper()
	for _, text := range texts {
		if _, err := time.Parse(time.RFC3339Nano, text); err != nil {
			r.Errorf("%q is no time: %v", text, err)
		}
	}
}

// lists reads all that is told of no single container.
func (r reader) lists() {
	r.Helper()
	r.read("/containers/json?all=1&size=1", &[]strict.Summary{})
	r.read("/networks", &[]strictnetwork.Summary{})
	r.read("/images/json", &[]image.Summary{})
	var told image.InspectResponse
	r.read("/images/"+os.Getenv("TEST_IMAGE")+"/json", &told)
	r.instants(told.Created)
	r.read("/images/"+os.Getenv("TEST_IMAGE")+"/history", &[]image.HistoryResponseItem{})
	var volumes volume.ListResponse
	r.read("/volumes", &volumes)
	for _, each := range volumes.Volumes {
		r.instants(each.CreatedAt)
	}
	var usage struct {
		Containers []strict.Summary
		Images     []image.Summary
		Volumes    []volume.Volume
		BuildCache []build.CacheRecord
	}
	r.read("/system/df", &usage)
	if len(usage.Containers) == 0 || len(usage.Images) == 0 {
		r.Errorf("df tells of %d containers and %d images", len(usage.Containers), len(usage.Images))
	}
	var info system.Info
	r.read("/info", &info)
	r.instants(info.SystemTime)
	r.read("/version", &system.VersionResponse{})
}

// inspected reads what is told of one container, whatever its state.
func (r reader) inspected(id string) strict.InspectResponse {
	r.Helper()
	var told strict.InspectResponse
	r.read("/containers/"+id+"/json?size=1", &told)
	r.instants(told.Created, told.State.StartedAt, told.State.FinishedAt)
	_, header := r.get("/containers/" + id + "/archive?path=/etc")
	text, err := base64.StdEncoding.DecodeString(header.Get("X-Docker-Container-Path-Stat"))
	if err != nil {
		r.Error(err)
	}
	var stat strict.PathStat
	if err := json.Unmarshal(text, &stat); err != nil || stat.Mtime.IsZero() {
		r.Errorf("%v: %s", err, text)
	}
	return told
}

func (r reader) remove(id string) {
	err := r.docker.ContainerRemove(context.Background(), id, container.RemoveOptions{Force: true, RemoveVolumes: true})
	if err != nil && !errdefs.IsNotFound(err) {
		r.Error("remove:", err)
	}
}

// lives reads all that is told of a container that is created, runs and has ended.
func (r reader) lives(id string, running func(strict.InspectResponse)) {
	r.Helper()
	r.inspected(id)
	r.lists()
	if err := r.docker.ContainerStart(r.ctx, id, container.StartOptions{}); err != nil {
		r.Fatal("start:", err)
	}
	running(r.inspected(id))
	r.lists()
	r.read("/containers/"+id+"/stats?stream=0&one-shot=1", &strict.StatsResponse{})
	if err := r.docker.ContainerKill(r.ctx, id, "KILL"); err != nil {
		r.Fatal("kill:", err)
	}
	r.inspected(id)
	r.lists()
}

func TestEachKindOfNetworkIsParsed(t *testing.T) {
	r := connect(t)
	for _, mode := range []container.NetworkMode{"default", "host", "none"} {
		r.Run(string(mode), func(t *testing.T) {
			r := reader{t, r.docker, r.ctx}
			made, err := r.docker.ContainerCreate(r.ctx,
				&container.Config{Image: os.Getenv("TEST_IMAGE"), Cmd: []string{"sleep", "1000"}},
				&container.HostConfig{NetworkMode: mode}, nil, nil, "")
			if errdefs.IsNotImplemented(err) {
				t.Skip(err) // A cloud that has no such mode.
			}
			if err != nil {
				t.Fatal("create:", err)
			}
			t.Cleanup(func() { r.remove(made.ID) })
			r.lives(made.ID, func(strict.InspectResponse) {})
		})
	}
}

// TestAFullContainerIsParsed has one with every kind of address, port, name, mount and time that a client can ask for.
func TestAFullContainerIsParsed(t *testing.T) {
	r := connect(t)
	began := time.Now().Add(-time.Second)
	const own, hardware = "10.213.91.9", "02:42:0A:D5:5B:09"
	side, err := r.docker.NetworkCreate(r.ctx, "strict", network.CreateOptions{
		Labels: map[string]string{"kind": "strict"},
		IPAM: &network.IPAM{Config: []network.IPAMConfig{{
			Subnet: "10.213.91.0/24", IPRange: "10.213.91.128/25", Gateway: "10.213.91.254",
			AuxAddress: map[string]string{"printer": "10.213.91.200"},
		}}},
	})
	if err != nil {
		t.Fatal("network create:", err)
	}
	t.Cleanup(func() {
		if err := r.docker.NetworkRemove(context.Background(), side.ID); err != nil {
			t.Error("network remove:", err)
		}
	})
	made, err := r.docker.ContainerCreate(r.ctx,
		&container.Config{
			Image: os.Getenv("TEST_IMAGE"), Cmd: []string{"sleep", "1000"},
			Hostname: "full", Domainname: "example.org", Env: []string{"A=1"}, Labels: map[string]string{"a": "b"},
			ExposedPorts: nat.PortSet{"53/udp": {}, "80/tcp": {}, "9000/tcp": {}},
			Healthcheck: &container.HealthConfig{
				Test: []string{"CMD", "true"}, Interval: 200 * time.Millisecond, Timeout: time.Minute, Retries: 3,
				StartPeriod: time.Second, StartInterval: 100 * time.Millisecond,
			},
		},
		&container.HostConfig{
			NetworkMode: "strict",
			PortBindings: nat.PortMap{
				"80/tcp": {{HostIP: "127.0.0.1"}, {HostIP: "127.0.0.1", HostPort: "0"}},
				"53/udp": {{HostIP: "127.0.0.1"}},
			},
			DNS: []string{"192.0.2.53", "2001:db8::53"}, DNSSearch: []string{"example.org"}, ExtraHosts: []string{"db:10.0.0.5", "six:2001:db8::5"},
			CapDrop:   []string{"mknod"},
			LogConfig: container.LogConfig{Type: "json-file"},
			Mounts:    []mount.Mount{{Type: mount.TypeVolume, Target: "/anonymous"}},
			Resources: container.Resources{Ulimits: []*container.Ulimit{{Name: "nofile", Soft: 100, Hard: 200}}},
		},
		&network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{
			"strict": {
				IPAMConfig: &network.EndpointIPAMConfig{IPv4Address: own}, MacAddress: hardware,
				Aliases: []string{"alias"}, DriverOpts: map[string]string{"a": "b"}, GwPriority: 7,
			},
		}}, nil, "full")
	if err != nil {
		t.Fatal("create:", err)
	}
	t.Cleanup(func() { r.remove(made.ID) })
	r.lives(made.ID, func(told strict.InspectResponse) { r.runs(made.ID, told, own, hardware) })

	query := url.Values{"since": {unix(began)}, "until": {unix(time.Now().Add(time.Second))}}
	body, _ := r.get("/events?" + query.Encode())
	decoder := json.NewDecoder(strings.NewReader(string(body)))
	kinds := map[events.Type]int{}
	for {
		var told events.Message
		err := decoder.Decode(&told)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, body)
		}
		if time.Unix(0, told.TimeNano).Unix() != told.Time || told.Time < began.Unix() {
			t.Errorf("%d is not %d", told.TimeNano, told.Time)
		}
		kinds[told.Type]++
	}
	for _, kind := range []events.Type{events.ContainerEventType, events.NetworkEventType, events.VolumeEventType} {
		if kinds[kind] == 0 {
			t.Errorf("no event of a %s in\n%s", kind, body)
		}
	}
}

// runs checks what is told of the full container alone while it runs.
func (r reader) runs(id string, told strict.InspectResponse, own, hardware string) {
	r.Helper()
	endpoint := told.NetworkSettings.Networks["strict"]
	if endpoint == nil || endpoint.IPAddress.String() != own || !strings.EqualFold(endpoint.MacAddress.String(), hardware) {
		r.Errorf("the endpoint is %+v", endpoint)
	}
	published := 0
	for port, bindings := range told.NetworkSettings.Ports {
		for _, binding := range bindings {
			number, err := strconv.Atoi(binding.HostPort)
			if err != nil || number <= 0 || !binding.HostIP.IsLoopback() {
				r.Errorf("%s is bound at %v %q", port, binding.HostIP, binding.HostPort)
			}
			published++
		}
	}
	if published != 3 {
		r.Errorf("%d ports are published: %v", published, told.NetworkSettings.Ports)
	}
	var side strictnetwork.Inspect
	r.read("/networks/strict", &side)
	if member := side.Containers[id]; member.IPv4Address.Addr().String() != own || !strings.EqualFold(member.MacAddress.String(), hardware) {
		r.Errorf("the network's member is %+v", member)
	}
	for told.State.Health == nil || len(told.State.Health.Log) == 0 {
		if r.ctx.Err() != nil {
			r.Fatal("no health check has run:", r.ctx.Err())
		}
		time.Sleep(100 * time.Millisecond)
		r.read("/containers/"+id+"/json", &told)
	}
	for _, check := range told.State.Health.Log {
		if check.Start.IsZero() || check.End.Before(check.Start) {
			r.Errorf("a check ran from %v to %v", check.Start, check.End)
		}
	}
	exec, err := r.docker.ContainerExecCreate(r.ctx, id, container.ExecOptions{Cmd: []string{"true"}})
	if err != nil {
		r.Fatal("exec:", err)
	}
	r.read("/exec/"+exec.ID+"/json", &strict.ExecInspectResponse{})
	r.read("/containers/"+id+"/top", &strict.TopResponse{})
}

func unix(at time.Time) string { return strconv.FormatInt(at.Unix(), 10) }
