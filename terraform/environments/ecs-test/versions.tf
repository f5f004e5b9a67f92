terraform {
  required_version = ">= 1.5"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.77"
    }
  }

  # State that a team shares; the bucket has to exist, with versioning on.
  # backend "s3" {
  #   bucket  = "my-terraform-state"
  #   key     = "sockerless/ecs-test.tfstate"
  #   region  = "us-east-1"
  #   encrypt = true
  # }
}

provider "aws" {
  region = var.region
}
