// Command testcontainers-build has testcontainers build the Dockerfile of a directory for a container, and prints what that
// one says.
package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/wait"
)

func main() {
	if err := run(context.Background(), os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "testcontainers-build:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, directory string) (err error) {
	who := "Go"
	made, err := testcontainers.GenericContainer(ctx, testcontainers.GenericContainerRequest{
		ContainerRequest: testcontainers.ContainerRequest{
			FromDockerfile: testcontainers.FromDockerfile{
				Context: directory, BuildArgs: map[string]*string{"WHO": &who}, BuildLogWriter: os.Stderr,
			},
			WaitingFor: wait.ForExit(),
		},
		Started: true,
	})
	if made != nil {
		defer func() {
			if ended := made.Terminate(context.Background()); err == nil {
				err = ended
			}
		}()
	}
	if err != nil {
		return err
	}
	logs, err := made.Logs(ctx)
	if err != nil {
		return err
	}
	defer logs.Close()
	_, err = io.Copy(os.Stdout, logs)
	return err
}
