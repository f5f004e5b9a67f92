package sdk

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/client"
	"github.com/docker/docker/errdefs"
	strict "github.com/moby/moby/api/types/container"
	strictnetwork "github.com/moby/moby/api/types/network"
)

// read gets a path and decodes it with the types of moby's newer module, which parse addresses, prefixes, hardware
// addresses and times where the older ones keep text.
func read(t *testing.T, docker *client.Client, ctx context.Context, path string, into any) {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker/v1.51"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := docker.HTTPClient().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s %v", path, response.Status, err)
	}
	if err := json.Unmarshal(body, into); err != nil {
		t.Errorf("GET %s: %v in\n%s", path, err, body)
	}
}

func TestEveryAddressAndTimeIsParsedByStrictTypes(t *testing.T) {
	docker, ctx := connect(t)
	side, err := docker.NetworkCreate(ctx, "strict", network.CreateOptions{})
	if err != nil {
		t.Fatal("network create:", err)
	}
	t.Cleanup(func() { _ = docker.NetworkRemove(context.Background(), side.ID) })
	for _, mode := range []container.NetworkMode{"default", "host", "none", "strict"} {
		t.Run(string(mode), func(t *testing.T) {
			made, err := docker.ContainerCreate(ctx,
				&container.Config{Image: os.Getenv("TEST_IMAGE"), Cmd: []string{"sleep", "60"}},
				&container.HostConfig{NetworkMode: mode}, nil, nil, "")
			if errdefs.IsNotImplemented(err) {
				t.Skip(err) // A cloud that has no such mode.
			}
			if err != nil {
				t.Fatal("create:", err)
			}
			t.Cleanup(func() {
				_ = docker.ContainerRemove(context.Background(), made.ID, container.RemoveOptions{Force: true})
			})
			told := func() {
				read(t, docker, ctx, "/containers/"+made.ID+"/json", &strict.InspectResponse{})
				read(t, docker, ctx, "/containers/json?all=1", &[]strict.Summary{})
				read(t, docker, ctx, "/networks", &[]strictnetwork.Summary{})
				read(t, docker, ctx, "/networks/strict", &strictnetwork.Inspect{})
			}
			told()
			if err := docker.ContainerStart(ctx, made.ID, container.StartOptions{}); err != nil {
				t.Fatal("start:", err)
			}
			told()
			if err := docker.ContainerKill(ctx, made.ID, "KILL"); err != nil {
				t.Fatal("kill:", err)
			}
			told()
		})
	}
}
