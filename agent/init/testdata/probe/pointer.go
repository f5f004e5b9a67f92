package main

import "unsafe"

func pointer[T any](value *T) unsafe.Pointer { return unsafe.Pointer(value) }
