import matplotlib.pyplot as plt


def visualize_gradient_flow(model, x):
    """
    Visualize gradient magnitudes from final output to each input position.
    """
    model.train()
    x = x.requires_grad_(True)
    
    outputs, _ = model(x)
    loss = outputs[0, -1, :].sum()
    loss.backward()
    
    grad_norms = x.grad[0].norm(dim=-1).detach().numpy()
    
    plt.figure(figsize=(10, 4))
    plt.plot(range(len(grad_norms)), grad_norms)
    plt.xlabel('Timestep')
    plt.ylabel('Gradient Magnitude')
    plt.title('Gradient Flow Through Time')
    plt.yscale('log')
    plt.show()
