package main

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"

	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

// cloud is what a provider knows beside its schema.
type cloud struct {
	// computed are the values of computed attributes by "type.attribute". {name} stands for another attribute of the
	// resource, {region} for the region, {random} for hexadecimal digits that are new for each attribute.
	computed map[string]string
	// dataSources answer with attributes of a data source, given its configuration.
	dataSources map[string]dataSource
}

type dataSource func(region string, config tftypes.Value) (map[string]tftypes.Value, error)

var clouds = map[string]cloud{"aws": aws, "azurerm": azure}

var placeholder = regexp.MustCompile(`\{(\w+)\}`)

// apply gives a value to everything that the plan left unknown.
func apply(cloud cloud, region, typeName string, planned tftypes.Value) (tftypes.Value, error) {
	resource := &newResource{cloud: cloud, region: region, typeName: typeName}
	if err := planned.As(&resource.attributes); err != nil {
		return planned, err
	}
	for _, name := range sortedKeys(resource.attributes) {
		if err := resource.resolve(name); err != nil {
			return planned, err
		}
	}
	return tftypes.NewValue(planned.Type(), resource.attributes), nil
}

type newResource struct {
	cloud      cloud
	region     string
	typeName   string
	attributes map[string]tftypes.Value
}

func (r *newResource) resolve(name string) error {
	value := r.attributes[name]
	if value.IsFullyKnown() {
		return nil
	}
	template, isNamed := r.cloud.computed[r.typeName+"."+name]
	if !isNamed || !value.Type().Is(tftypes.String) {
		known, err := tftypes.Transform(value, func(path *tftypes.AttributePath, part tftypes.Value) (tftypes.Value, error) {
			if part.IsKnown() {
				return part, nil
			}
			return plausible(part.Type(), name), nil
		})
		r.attributes[name] = known
		return err
	}
	text, err := r.expand(template)
	if err != nil {
		return fmt.Errorf("%s.%s: %w", r.typeName, name, err)
	}
	r.attributes[name] = tftypes.NewValue(tftypes.String, text)
	return nil
}

func (r *newResource) expand(template string) (string, error) {
	var failure error
	text := placeholder.ReplaceAllStringFunc(template, func(match string) string {
		name := strings.Trim(match, "{}")
		switch name {
		case "random":
			return randomHex()
		case "region":
			return r.region
		}
		if _, ok := r.attributes[name]; !ok {
			failure = fmt.Errorf("no attribute %s", name)
			return ""
		}
		if err := r.resolve(name); err != nil {
			failure = err
			return ""
		}
		value, err := textOf(r.attributes[name])
		if err != nil {
			failure = fmt.Errorf("%s: %w", name, err)
		}
		return value
	})
	return text, failure
}

// plausible is a value of a type that no template names.
func plausible(valueType tftypes.Type, name string) tftypes.Value {
	switch {
	case valueType.Is(tftypes.String):
		return tftypes.NewValue(valueType, strings.ReplaceAll(name, "_", "-")+"-"+randomHex())
	case valueType.Is(tftypes.Number):
		return tftypes.NewValue(valueType, 1)
	case valueType.Is(tftypes.Bool):
		return tftypes.NewValue(valueType, false)
	case valueType.Is(tftypes.Map{}):
		return tftypes.NewValue(valueType, map[string]tftypes.Value{})
	case valueType.Is(tftypes.List{}), valueType.Is(tftypes.Set{}):
		return tftypes.NewValue(valueType, []tftypes.Value{})
	default:
		return tftypes.NewValue(valueType, nil)
	}
}

func randomHex() string {
	bytes := make([]byte, 8)
	_, _ = rand.Read(bytes) // Never fails.
	return "0" + hex.EncodeToString(bytes)
}

// textOf is the text of a known string.
func textOf(value tftypes.Value) (string, error) {
	if value.Type() == nil || !value.Type().Is(tftypes.String) || value.IsNull() || !value.IsKnown() {
		return "", fmt.Errorf("%s is not a known text", value)
	}
	var text string
	err := value.As(&text)
	return text, err
}

func text(value string) tftypes.Value {
	return tftypes.NewValue(tftypes.String, value)
}

func texts(values ...string) tftypes.Value {
	items := make([]tftypes.Value, 0, len(values))
	for _, value := range values {
		items = append(items, text(value))
	}
	return tftypes.NewValue(tftypes.List{ElementType: tftypes.String}, items)
}
