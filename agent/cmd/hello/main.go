// Command hello is the only file of the built-in image sockerless/hello: it
// greets, and says what happened to bring the greeting here.
package main

import "os"

const greeting = `
Hello from sockerless!

You have just run a container without a Docker engine:

 1. Your Docker client asked the sockerless frontend to create and start a
    container of the image sockerless/hello, which is built in.
 2. The frontend asked its backend, which wrote down what it was about to do
    and had this machine's OCI runtime start the container.
 3. The agent beside the container took this text from the process and sent it
    straight to the frontend, and the frontend to your terminal.

Next, a shell of your own:

    docker pull busybox
    docker run -it --rm busybox sh

or, without a registry, any root file system: tar -C DIR -c . | docker import - NAME
`

func main() {
	if _, err := os.Stdout.WriteString(greeting); err != nil {
		os.Exit(1)
	}
}
