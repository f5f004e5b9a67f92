// Command hello is the only program of the built-in image sockerless/hello. It
// says what has just happened, and what to try next.
package main

import (
	"io"
	"os"
)

const greeting = `
Hello from a sockerless container!

This is what just happened:
  1. Your docker client sent this container to sockerless, as it would to a
     Docker engine.
  2. sockerless unpacked the image "sockerless/hello" and gave the container a
     file system, a network and limits of its own.
  3. An OCI runtime (runc or crun) started this program in it, and its output
     came back to you over the stream you are reading.

No Docker engine was involved.

Something to try next:
  docker pull busybox
  docker run --rm -it busybox sh

`

func main() {
	if _, err := io.WriteString(os.Stdout, greeting); err != nil {
		os.Exit(1)
	}
}
