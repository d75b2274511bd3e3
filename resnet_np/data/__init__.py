"""Images in: folders and tables of them, decoding, a doctor, random transforms, batches in a seeded
order.
"""
