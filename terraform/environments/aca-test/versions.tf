terraform {
  required_version = ">= 1.5"

  required_providers {
    azurerm = {
      source  = "hashicorp/azurerm"
      version = "~> 4.17"
    }
  }

  # State that a team shares; it holds the storage account's key, so few should read it.
  # backend "azurerm" {
  #   resource_group_name  = "my-terraform-state"
  #   storage_account_name = "myterraformstate"
  #   container_name       = "tfstate"
  #   key                  = "sockerless/aca-test.tfstate"
  #   use_azuread_auth     = true
  # }
}

provider "azurerm" {
  subscription_id = var.subscription_id

  features {}
}
