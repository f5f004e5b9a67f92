// Command cibuild does what a CI job does inside its own container: by the Docker socket that is mounted there it builds
// an image of its directory and runs what it has built, whose output it prints.
package main

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/docker/docker/api/types/build"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"
	"github.com/docker/docker/pkg/jsonmessage"
	"github.com/docker/docker/pkg/stdcopy"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "cibuild:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	docker, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		return err
	}
	defer docker.Close()
	var files bytes.Buffer
	archive := tar.NewWriter(&files)
	if err := archive.AddFS(os.DirFS(".")); err != nil {
		return err
	}
	if err := archive.Close(); err != nil {
		return err
	}
	// As act builds the Dockerfile of an action.
	answer, err := docker.ImageBuild(ctx, &files, build.ImageBuildOptions{
		Tags: []string{"cibuild:1"}, Remove: true, Dockerfile: "Dockerfile", Platform: os.Getenv("PLATFORM"),
	})
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if err := jsonmessage.DisplayJSONMessagesStream(answer.Body, os.Stderr, 0, false, nil); err != nil {
		return err
	}
	made, err := docker.ContainerCreate(ctx, &container.Config{Image: "cibuild:1", Cmd: os.Args[1:]}, nil, nil, nil, "")
	if err != nil {
		return err
	}
	defer docker.ContainerRemove(ctx, made.ID, container.RemoveOptions{Force: true})
	ended, failed := docker.ContainerWait(ctx, made.ID, container.WaitConditionNextExit)
	if err := docker.ContainerStart(ctx, made.ID, container.StartOptions{}); err != nil {
		return err
	}
	select {
	case <-ended:
	case err := <-failed:
		return err
	}
	logs, err := docker.ContainerLogs(ctx, made.ID, container.LogsOptions{ShowStdout: true, ShowStderr: true})
	if err != nil {
		return err
	}
	defer logs.Close()
	_, err = stdcopy.StdCopy(os.Stdout, io.Discard, logs)
	return err
}
