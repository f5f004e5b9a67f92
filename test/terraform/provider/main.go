// Command provider stands in for a cloud's Terraform provider where the real one cannot be had. It serves the real
// provider's schema, so that Terraform's own validate, plan and apply check every name, type and block of our modules,
// and it answers an apply with plausible values instead of calling a cloud. Its file name says which provider it is:
// terraform-provider-aws_v5.99.1, terraform-provider-azurerm_v4.55.0.
//
// It cannot show what only the real ones know: value checks of single attributes, which changes force a replacement,
// and what the clouds themselves answer.
package main

import (
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/terraform-plugin-go/tfprotov5"
	"github.com/hashicorp/terraform-plugin-go/tfprotov5/tf5server"
)

//go:embed fixtures/*.json
var fixtures embed.FS

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	name, ok := strings.CutPrefix(filepath.Base(os.Args[0]), "terraform-provider-")
	if !ok {
		return fmt.Errorf("%s: the file name must be terraform-provider-<name>_v<version>", os.Args[0])
	}
	name, _, _ = strings.Cut(name, "_")
	schema, err := loadProvider(name)
	if err != nil {
		return err
	}
	server, err := newServer(schema, clouds[name])
	if err != nil {
		return err
	}
	return tf5server.Serve(schema.Source, func() tfprotov5.ProviderServer { return server })
}
