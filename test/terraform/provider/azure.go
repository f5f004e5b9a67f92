package main

import "github.com/hashicorp/terraform-plugin-go/tftypes"

const (
	azureSubscription = "00000000-0000-4000-8000-000000000001"
	azureTenant       = "00000000-0000-4000-8000-000000000002"
	azureObject       = "00000000-0000-4000-8000-000000000003"
	resourceGroup     = "/subscriptions/" + azureSubscription + "/resourceGroups/"
)

var azure = cloud{
	computed: map[string]string{
		"azurerm_container_app_environment.id":             providerID("Microsoft.App/managedEnvironments/{name}"),
		"azurerm_container_app_environment.default_domain": "{name}.{location}.azurecontainerapps.io",
		"azurerm_container_registry.id":                    providerID("Microsoft.ContainerRegistry/registries/{name}"),
		"azurerm_container_registry.login_server":          "{name}.azurecr.io",
		"azurerm_log_analytics_workspace.id":               providerID("Microsoft.OperationalInsights/workspaces/{name}"),
		"azurerm_private_dns_zone.id":                      providerID("Microsoft.Network/privateDnsZones/{name}"),
		"azurerm_private_dns_zone_virtual_network_link.id": providerID("Microsoft.Network/privateDnsZones/{private_dns_zone_name}/virtualNetworkLinks/{name}"),
		"azurerm_resource_group.id":                        resourceGroup + "{name}",
		"azurerm_role_assignment.id":                       "{scope}/providers/Microsoft.Authorization/roleAssignments/{name}",
		"azurerm_storage_account.id":                       providerID("Microsoft.Storage/storageAccounts/{name}"),
		"azurerm_subnet.id":                                providerID("Microsoft.Network/virtualNetworks/{virtual_network_name}/subnets/{name}"),
		"azurerm_user_assigned_identity.id":                providerID("Microsoft.ManagedIdentity/userAssignedIdentities/{name}"),
		"azurerm_user_assigned_identity.tenant_id":         azureTenant,
		"azurerm_virtual_network.id":                       providerID("Microsoft.Network/virtualNetworks/{name}"),
	},
	dataSources: map[string]dataSource{
		"azurerm_client_config": func(string, tftypes.Value) (map[string]tftypes.Value, error) {
			return map[string]tftypes.Value{
				"id":              text("client-config"),
				"client_id":       text(azureObject),
				"object_id":       text(azureObject),
				"subscription_id": text(azureSubscription),
				"tenant_id":       text(azureTenant),
			}, nil
		},
		"azurerm_resource_group": func(_ string, config tftypes.Value) (map[string]tftypes.Value, error) {
			var values map[string]tftypes.Value
			if err := config.As(&values); err != nil {
				return nil, err
			}
			name, err := textOf(values["name"])
			if err != nil {
				return nil, err
			}
			return map[string]tftypes.Value{"id": text(resourceGroup + name), "location": text("westeurope")}, nil
		},
	},
}

func providerID(resource string) string {
	return resourceGroup + "{resource_group_name}/providers/" + resource
}
