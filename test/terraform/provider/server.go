package main

import (
	"context"
	"fmt"

	"github.com/hashicorp/terraform-plugin-go/tfprotov5"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

// server answers Terraform's calls. It keeps nothing: what exists is what Terraform's state says.
type server struct {
	unsupported
	provider *provider
	cloud    cloud
	schemas  *tfprotov5.GetProviderSchemaResponse
	settings settings
}

// settings come from the provider block of a configuration.
type settings struct {
	region      string
	defaultTags map[string]tftypes.Value
}

func newServer(schema *provider, cloud cloud) (*server, error) {
	response := &tfprotov5.GetProviderSchemaResponse{
		Provider:          schema.Config.schema(),
		ResourceSchemas:   map[string]*tfprotov5.Schema{},
		DataSourceSchemas: map[string]*tfprotov5.Schema{},
	}
	for name, resource := range schema.Resources {
		response.ResourceSchemas[name] = resource.schema()
	}
	for name, dataSource := range schema.DataSources {
		if cloud.dataSources[name] == nil {
			return nil, fmt.Errorf("nothing answers for the data source %s", name)
		}
		response.DataSourceSchemas[name] = dataSource.schema()
	}
	return &server{provider: schema, cloud: cloud, schemas: response}, nil
}

func (s *server) GetProviderSchema(context.Context, *tfprotov5.GetProviderSchemaRequest) (*tfprotov5.GetProviderSchemaResponse, error) {
	return s.schemas, nil
}

func (s *server) GetMetadata(context.Context, *tfprotov5.GetMetadataRequest) (*tfprotov5.GetMetadataResponse, error) {
	response := new(tfprotov5.GetMetadataResponse)
	for name := range s.provider.Resources {
		response.Resources = append(response.Resources, tfprotov5.ResourceMetadata{TypeName: name})
	}
	for name := range s.provider.DataSources {
		response.DataSources = append(response.DataSources, tfprotov5.DataSourceMetadata{TypeName: name})
	}
	return response, nil
}

func (s *server) PrepareProviderConfig(_ context.Context, request *tfprotov5.PrepareProviderConfigRequest) (*tfprotov5.PrepareProviderConfigResponse, error) {
	return &tfprotov5.PrepareProviderConfigResponse{PreparedConfig: request.Config}, nil
}

func (s *server) ConfigureProvider(_ context.Context, request *tfprotov5.ConfigureProviderRequest) (*tfprotov5.ConfigureProviderResponse, error) {
	response := new(tfprotov5.ConfigureProviderResponse)
	config, err := request.Config.Unmarshal(s.schemas.Provider.ValueType())
	if err == nil {
		s.settings, err = readSettings(config)
	}
	response.Diagnostics = diagnose("the provider block", err)
	return response, nil
}

func (s *server) ValidateResourceTypeConfig(_ context.Context, request *tfprotov5.ValidateResourceTypeConfigRequest) (*tfprotov5.ValidateResourceTypeConfigResponse, error) {
	config, err := request.Config.Unmarshal(s.schemas.ResourceSchemas[request.TypeName].ValueType())
	if err == nil {
		err = validate(s.provider.Resources[request.TypeName], config)
	}
	return &tfprotov5.ValidateResourceTypeConfigResponse{Diagnostics: diagnose(request.TypeName, err)}, nil
}

func (s *server) ValidateDataSourceConfig(_ context.Context, request *tfprotov5.ValidateDataSourceConfigRequest) (*tfprotov5.ValidateDataSourceConfigResponse, error) {
	config, err := request.Config.Unmarshal(s.schemas.DataSourceSchemas[request.TypeName].ValueType())
	if err == nil {
		err = validate(s.provider.DataSources[request.TypeName], config)
	}
	return &tfprotov5.ValidateDataSourceConfigResponse{Diagnostics: diagnose(request.TypeName, err)}, nil
}

func (s *server) UpgradeResourceState(_ context.Context, request *tfprotov5.UpgradeResourceStateRequest) (*tfprotov5.UpgradeResourceStateResponse, error) {
	response := new(tfprotov5.UpgradeResourceStateResponse)
	valueType := s.schemas.ResourceSchemas[request.TypeName].ValueType()
	state, err := request.RawState.Unmarshal(valueType)
	if err == nil {
		response.UpgradedState, err = encode(valueType, state)
	}
	response.Diagnostics = diagnose(request.TypeName, err)
	return response, nil
}

func (s *server) ReadResource(_ context.Context, request *tfprotov5.ReadResourceRequest) (*tfprotov5.ReadResourceResponse, error) {
	return &tfprotov5.ReadResourceResponse{NewState: request.CurrentState, Private: request.Private}, nil
}

func (s *server) PlanResourceChange(_ context.Context, request *tfprotov5.PlanResourceChangeRequest) (*tfprotov5.PlanResourceChangeResponse, error) {
	response := new(tfprotov5.PlanResourceChangeResponse)
	planned, err := s.transform(request.TypeName, request.ProposedNewState, func(proposed tftypes.Value) (tftypes.Value, error) {
		prior, err := request.PriorState.Unmarshal(proposed.Type())
		if err != nil {
			return proposed, err
		}
		return plan(s.provider.Resources[request.TypeName], proposed, prior.IsNull(), s.settings.defaultTags)
	})
	response.PlannedState = planned
	response.PlannedPrivate = request.PriorPrivate
	response.Diagnostics = diagnose(request.TypeName, err)
	return response, nil
}

func (s *server) ApplyResourceChange(_ context.Context, request *tfprotov5.ApplyResourceChangeRequest) (*tfprotov5.ApplyResourceChangeResponse, error) {
	response := new(tfprotov5.ApplyResourceChangeResponse)
	state, err := s.transform(request.TypeName, request.PlannedState, func(planned tftypes.Value) (tftypes.Value, error) {
		return apply(s.cloud, s.settings.region, request.TypeName, planned)
	})
	response.NewState = state
	response.Private = request.PlannedPrivate
	response.Diagnostics = diagnose(request.TypeName, err)
	return response, nil
}

func (s *server) ReadDataSource(_ context.Context, request *tfprotov5.ReadDataSourceRequest) (*tfprotov5.ReadDataSourceResponse, error) {
	response := new(tfprotov5.ReadDataSourceResponse)
	valueType := s.schemas.DataSourceSchemas[request.TypeName].ValueType()
	config, err := request.Config.Unmarshal(valueType)
	if err == nil {
		response.State, err = s.readDataSource(request.TypeName, valueType, config)
	}
	response.Diagnostics = diagnose(request.TypeName, err)
	return response, nil
}

func (s *server) readDataSource(name string, valueType tftypes.Type, config tftypes.Value) (*tfprotov5.DynamicValue, error) {
	attributes := map[string]tftypes.Value{}
	if err := config.As(&attributes); err != nil {
		return nil, err
	}
	answers, err := s.cloud.dataSources[name](s.settings.region, config)
	if err != nil {
		return nil, err
	}
	for attribute, answer := range answers {
		attributes[attribute] = answer
	}
	return encode(valueType, tftypes.NewValue(valueType, attributes))
}

// transform changes a resource's value; that of a resource that goes away stays null.
func (s *server) transform(name string, encoded *tfprotov5.DynamicValue, change func(tftypes.Value) (tftypes.Value, error)) (*tfprotov5.DynamicValue, error) {
	valueType := s.schemas.ResourceSchemas[name].ValueType()
	value, err := encoded.Unmarshal(valueType)
	if err != nil || value.IsNull() {
		return encoded, err
	}
	if value, err = change(value); err != nil {
		return nil, err
	}
	return encode(valueType, value)
}

func encode(valueType tftypes.Type, value tftypes.Value) (*tfprotov5.DynamicValue, error) {
	encoded, err := tfprotov5.NewDynamicValue(valueType, value)
	if err != nil {
		return nil, err
	}
	return &encoded, nil
}

func diagnose(subject string, err error) []*tfprotov5.Diagnostic {
	if err == nil {
		return nil
	}
	return []*tfprotov5.Diagnostic{{
		Severity: tfprotov5.DiagnosticSeverityError,
		Summary:  "The stand-in provider refuses " + subject,
		Detail:   err.Error(),
	}}
}
