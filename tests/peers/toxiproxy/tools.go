//go:build tools

// Package tools names the program that this module is built for; its version and sums stand in go.mod and go.sum.
package tools

import _ "github.com/Shopify/toxiproxy/v2/cmd/server"
