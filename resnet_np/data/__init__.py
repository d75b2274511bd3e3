"""Images in: folders of classes, decoding, the embedded digits, random transforms, batches in
a seeded order.
"""
